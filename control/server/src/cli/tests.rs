#![allow(clippy::unwrap_used, clippy::panic)]

use clap::CommandFactory as _;
use svidecar_process::{args, testing::closed};

use super::*;

fn words(line: &str) -> impl Iterator<Item = OsString> {
    line.split_whitespace().map(OsString::from)
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args::normalize(words(line)))
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// Command lines as SPIRE's documentation, its tests and its users' scripts have them.
#[test]
fn spires_command_lines_are_understood() {
    for line in [
        "spire-server run -config conf/server/server.conf -logLevel DEBUG -trustDomain example.org -serverPort 8081",
        "spire-server run -bindAddress 0.0.0.0 -dataDir /d -socketPath /s -logFormat json",
        "spire-server validate -config conf/server/server.conf",
        "spire-server healthcheck",
        "spire-server healthcheck -shallow -verbose -socketPath /tmp/api.sock",
        "spire-server token generate -spiffeID spiffe://example.org/myagent",
        "spire-server token generate -ttl 600 -output json",
        "spire-server entry create -parentID spiffe://example.org/myagent -spiffeID spiffe://example.org/myservice \
         -selector unix:uid:1000",
        "spire-server entry create -spiffeID spiffe://example.org/a -parentID spiffe://example.org/p -selector \
         unix:user:admin -admin",
        "spire-server entry create -node -spiffeID spiffe://example.org/n -selector aws_iid:tag:a:b -selector x:y",
        "spire-server entry create -parentID a -spiffeID b -selector c:d -x509SVIDTTL 60 -jwtSVIDTTL 30 \
         -federatesWith spiffe://domaina.test -federatesWith spiffe://domainb.test -admin -entryExpiry 1552410266 \
         -dns unu1000 -dns ung1000 -downstream -storeSVID -hint internal -entryID entry-id \
         -disableX509SVIDPrefetch -jwtSVIDIncludeJTI",
        "spire-server entry create -admin=true -downstream=false -parentID a -spiffeID b -selector c:d",
        "spire-server entry create -data ../../good.json",
        "spire-server entry create -data -",
        "spire-server entry update -entryID e -parentID a -spiffeID b -selector c:d -ttl 60",
        "spire-server entry show",
        "spire-server entry show -entryID 0000 -output json",
        "spire-server entry show -selector a:b -matchSelectorsOn exact -federatesWith spiffe://d -matchFederatesWithOn any",
        "spire-server entry count -downstream -hint internal -parentID a -spiffeID b",
        "spire-server entry delete -entryID e",
        "spire-server entry delete -file -",
        "spire-server entry apply -f a.yaml -f dir --prune --dry-run",
        "spire-server agent list -banned true -canReattest false -attestationType join_token -selector a:b \
         -matchSelectorsOn superset -output json",
        "spire-server agent count -banned=false",
        "spire-server agent show -spiffeID spiffe://example.org/spire/agent/x",
        "spire-server agent ban -spiffeID spiffe://example.org/spire/agent/x",
        "spire-server agent evict -spiffeID spiffe://example.org/spire/agent/x -output json",
        "spire-server agent purge -expiredFor 24h -dryRun",
        "spire-server bundle show -format spiffe",
        "spire-server bundle list -id spiffe://example.org -format PEM",
        "spire-server bundle set -id spiffe://example.org -path bundle.pem -format pem",
        "spire-server bundle delete -id spiffe://example.org -mode dissociate",
        "spire-server bundle count",
        "spire-server x509 mint -spiffeID spiffe://example.org/a -dns a -dns b -ttl 1h -write /tmp",
        "spire-server jwt mint -spiffeID spiffe://example.org/a -audience x -audience y -ttl 1m30s -write token",
        "svidecar-server entry create --spiffe-id a --parent-id b --selector c:d --x509-svid-ttl 1h",
        "svidecar-server config show --effective -o json",
        "svidecar-server config schema",
        "svidecar-server completions bash",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "spire-server entry create -x509SVIDTTL -5 -selector a:b",
        "spire-server entry create -spifeID x",
        "spire-server entry delete",
        "spire-server entry show -matchSelectorsOn near",
        "spire-server agent show",
        "spire-server bundle delete -id x -mode maybe",
        "spire-server bundle show -format der",
        "spire-server jwt mint -spiffeID spiffe://example.org/a",
        "spire-server entry apply",
        "spire-server",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn the_socket_is_spires_unless_another_is_named() {
    let Command::Entry(entry::EntryCommand::Show(args)) =
        parse("s entry show -socketPath /x.sock").unwrap().command
    else {
        panic!("another command");
    };
    assert!(format!("{args:?}").contains("/x.sock"));
}

#[test]
fn a_reader_that_went_away_is_no_panic() {
    for line in [
        "svidecar-server completions bash",
        "svidecar-server config schema",
        "svidecar-server config show --effective --trust-domain demo.org --data-dir /d",
        "svidecar-server validate --trust-domain demo.org --data-dir /d",
    ] {
        let (mut console, seen) = closed();
        assert_eq!(command::run::<Cli>(words(line), &mut console), ExitCode::FAILURE, "{line}");
        assert_eq!(seen.err(), "", "{line}");
    }
}
