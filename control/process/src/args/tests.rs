//! Real SPIRE command lines, and the spelling of every one of its flags.

use super::*;

fn normal(line: &str) -> String {
    let args = normalize(line.split_whitespace().map(OsString::from));
    args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn command_lines_of_spire_run_unchanged() {
    for (spire, ours) in [
        (
            "spire-server entry create -spiffeID spiffe://demo.org/a -parentID spiffe://demo.org/n -selector unix:user:admin -admin",
            "spire-server entry create --spiffe-id spiffe://demo.org/a --parent-id spiffe://demo.org/n --selector unix:user:admin --admin",
        ),
        ("s entry create -data -", "s entry create --data -"),
        (
            "s entry create -x509SVIDTTL 60 -jwtSVIDTTL=30",
            "s entry create --x509-svid-ttl 60 --jwt-svid-ttl=30",
        ),
        ("s entry create -spiffeID=spiffe://demo.org/a", "s entry create --spiffe-id=spiffe://demo.org/a"),
        (
            "s entry show -matchSelectorsOn superset -output json",
            "s entry show --match-selectors-on superset --output json",
        ),
        (
            "s token generate -ttl 600 -socketPath /run/a.sock",
            "s token generate --ttl 600 --socket-path /run/a.sock",
        ),
        ("a api fetch x509 -write /tmp/x -silent", "a api fetch x509 --write /tmp/x --silent"),
        ("a api fetch jwt -audience a,b -spiffeID x", "a api fetch jwt --audience a,b --spiffe-id x"),
        ("s agent list -canReattest=false -banned=true", "s agent list --can-reattest=false --banned=true"),
    ] {
        assert_eq!(normal(spire), ours);
    }
}

#[test]
fn every_flag_of_spire_has_its_gnu_name() {
    for (spire, ours) in [
        // server run, agent run
        ("bindAddress", "bind-address"),
        ("serverPort", "server-port"),
        ("serverAddress", "server-address"),
        ("config", "config"),
        ("dataDir", "data-dir"),
        ("expandEnv", "expand-env"),
        ("logFile", "log-file"),
        ("logFormat", "log-format"),
        ("logLevel", "log-level"),
        ("logSourceLocation", "log-source-location"),
        ("trustDomain", "trust-domain"),
        ("socketPath", "socket-path"),
        ("namedPipeName", "named-pipe-name"),
        ("joinToken", "join-token"),
        ("joinTokenFile", "join-token-file"),
        ("trustBundle", "trust-bundle"),
        ("trustBundleUrl", "trust-bundle-url"),
        ("trustBundleFormat", "trust-bundle-format"),
        ("insecureBootstrap", "insecure-bootstrap"),
        ("rebootstrapMode", "rebootstrap-mode"),
        ("rebootstrapDelay", "rebootstrap-delay"),
        ("allowUnauthenticatedVerifiers", "allow-unauthenticated-verifiers"),
        ("disableWorkloadAPI", "disable-workload-api"),
        ("disableSDSAPI", "disable-sds-api"),
        // entries
        ("parentID", "parent-id"),
        ("spiffeID", "spiffe-id"),
        ("selector", "selector"),
        ("x509SVIDTTL", "x509-svid-ttl"),
        ("jwtSVIDTTL", "jwt-svid-ttl"),
        ("federatesWith", "federates-with"),
        ("dns", "dns"),
        ("entryExpiry", "entry-expiry"),
        ("entryID", "entry-id"),
        ("hint", "hint"),
        ("storeSVID", "store-svid"),
        ("disableX509SVIDPrefetch", "disable-x509-svid-prefetch"),
        ("jwtSVIDIncludeJTI", "jwt-svid-include-jti"),
        ("data", "data"),
        ("file", "file"),
        ("matchSelectorsOn", "match-selectors-on"),
        ("matchFederatesWithOn", "match-federates-with-on"),
        // agents
        ("attestationType", "attestation-type"),
        ("banned", "banned"),
        ("canReattest", "can-reattest"),
        ("expiresBefore", "expires-before"),
        ("expiredFor", "expired-for"),
        ("dryRun", "dry-run"),
        // bundles, federation
        ("id", "id"),
        ("path", "path"),
        ("mode", "mode"),
        ("bundleEndpointURL", "bundle-endpoint-url"),
        ("bundleEndpointProfile", "bundle-endpoint-profile"),
        ("endpointSpiffeID", "endpoint-spiffe-id"),
        ("trustDomainBundlePath", "trust-domain-bundle-path"),
        ("trustDomainBundleFormat", "trust-domain-bundle-format"),
        // authorities, the rest
        ("authorityID", "authority-id"),
        ("subjectKeyID", "subject-key-id"),
        ("instance", "instance"),
        ("audience", "audience"),
        ("svid", "svid"),
        ("timeout", "timeout"),
    ] {
        assert_eq!(normal(&format!("p -{spire}")), format!("p --{ours}"));
        assert_eq!(normal(&format!("p --{spire}=x")), format!("p --{ours}=x"));
        assert_eq!(normal(&format!("p --{ours} x")), format!("p --{ours} x"), "our own spelling stays");
    }
}

#[test]
fn names_that_spire_does_not_have_are_split_sensibly() {
    for (camel, ours) in [
        ("useTLSVersion", "use-tls-version"),
        ("outputPEM", "output-pem"),
        ("aB", "a-b"),
        ("Verbose", "verbose"),
    ] {
        assert_eq!(normal(&format!("p -{camel}")), format!("p --{ours}"));
    }
}

#[test]
fn switches_may_be_set_as_go_sets_them() {
    assert_eq!(normal("p -admin=true -downstream=false -node=1 -storeSVID=F"), "p --admin --node");
    assert_eq!(normal("p -admin=maybe"), "p --admin=maybe", "left for the parser to refuse");
    assert_eq!(normal("p -hint=true"), "p --hint=true", "not a switch");
}

#[test]
fn what_is_no_long_flag_stays() {
    let line = "p -f x.yaml -o json -h -V -v - -5 -0.5 a-b A:B -=x unix:path:/aB";
    assert_eq!(normal(line), line);
}

#[test]
fn nothing_after_two_dashes_is_touched() {
    assert_eq!(
        normal("p run -logLevel debug -- app -spiffeID x"),
        "p run --log-level debug -- app -spiffeID x"
    );
}

#[test]
fn the_name_of_the_program_is_not_a_flag() {
    assert_eq!(normal("-spiffeID -spiffeID"), "-spiffeID --spiffe-id");
    assert!(normalize([]).is_empty());
}

#[cfg(unix)]
#[test]
fn what_is_not_text_stays() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![b'-', b'a', 0xff]);
    assert_eq!(normalize(["p".into(), odd.clone()]), ["p".into(), odd]);
}

#[test]
fn a_separator_without_a_command_is_told_from_none() {
    let ends = |line: &str| ends_with_separator(&normalize(line.split_whitespace().map(OsString::from)));
    assert!(ends("a run --") && ends("a run -config a.yaml --"));
    for line in ["a run", "a run -- app", "a run -- app --", "a run -- --"] {
        assert!(!ends(line), "{line}");
    }
}
