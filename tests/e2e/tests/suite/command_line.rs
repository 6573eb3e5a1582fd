//! The command lines, as SPIRE's scripts use them; and OpenSSL's opinion of what we mint.

use std::{fs, io};

use anyhow::Result;
use svidecar_e2e::{Tool, need};
use svidecar_stack::{Launch, Stack, StackOptions};

/// A script written for `spire-server`; only the name of the program differs.
const SPIRE_SCRIPT: &str = r#"
set -euo pipefail
spire-server() { local verb="$1 $2"; shift 2; "$SERVER" $verb "$@" -socketPath "$SOCKET"; }

spire-server entry create -spiffeID spiffe://demo.org/db -parentID spiffe://demo.org/node \
  -selector unix:uid:1234 -selector unix:gid:1234 -x509SVIDTTL 600 -jwtSVIDTTL 120 -dns db.local -hint internal
spire-server entry create -spiffeID spiffe://demo.org/admin -parentID spiffe://demo.org/node -selector unix:user:admin -admin
ID=$(spire-server entry show -spiffeID spiffe://demo.org/db | grep 'Entry ID' | awk '{print $4}')
spire-server entry show -entryID "$ID" | grep '^X509-SVID TTL *: 600$'
spire-server entry show -output json -selector unix:uid:1234 | tr -d ' \n' | grep -q '"path":"/db"'
spire-server entry update -entryID "$ID" -spiffeID spiffe://demo.org/db -parentID spiffe://demo.org/node -selector unix:uid:77
spire-server entry count | grep -E '^[0-9]+ registration entries$'
if spire-server entry create -spiffeID spiffe://demo.org/db -parentID spiffe://demo.org/node -selector unix:uid:77 2>err; then
  echo "a twin was created"; exit 1
fi
grep 'AlreadyExists' err
echo '{"entries":[{"selectors":[{"type":"unix","value":"uid:1111"}],"spiffe_id":"spiffe://demo.org/bulk","parent_id":"spiffe://demo.org/node"}]}' \
  | spire-server entry create -data -
spire-server entry delete -entryID "$ID" | grep "^Deleted entry with ID: $ID$"
spire-server agent list | grep '^SPIFFE ID *: spiffe://demo.org/spire/agent/join_token/'
spire-server bundle show | grep -q 'BEGIN CERTIFICATE'
spire-server bundle show -format spiffe | grep -q 'spiffe_sequence'
spire-server token generate -spiffeID spiffe://demo.org/other -ttl 60 | grep '^Token: '
spire-server jwt mint -spiffeID spiffe://demo.org/db -audience orders | grep -E '^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$'
"$SERVER" healthcheck -socketPath "$SOCKET" | grep '^Server is healthy.$'
"$AGENT" healthcheck -socketPath "$AGENT_SOCKET" | grep '^Agent is healthy.$'
echo all of it went
"#;

#[tokio::test]
async fn a_script_for_spire_server_runs_unchanged() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let said = Launch::new("bash")
        .args(["-c", SPIRE_SCRIPT])
        .dir(stack.dir())
        .env("SERVER", stack.binaries.server())
        .env("AGENT", stack.binaries.agent())
        .env("SOCKET", stack.server_socket())
        .env("AGENT_SOCKET", stack.agent_socket())
        .text()
        .await?;
    assert!(said.ends_with("all of it went\n"), "{said}");
    Ok(())
}

/// B1, B2, B8, B10, B12, B13, B14: what we mint, as OpenSSL reads and verifies it.
#[tokio::test]
async fn openssl_verifies_what_we_mint() -> Result<()> {
    let Some(openssl) = need(Tool::OpenSsl, "openssl_verifies_what_we_mint")? else { return Ok(()) };
    let stack = Stack::start(StackOptions::default()).await?;
    let dir = stack.dir().join("minted");
    fs::create_dir(&dir)?;
    stack
        .server_cli(&["x509", "mint", "-spiffeID", "spiffe://demo.org/db", "-dns", "db.local", "-ttl", "10m"])
        .arg("-write")
        .arg(&dir)
        .text()
        .await?;
    for purpose in ["sslserver", "sslclient"] {
        let verdict = Launch::new(&openssl)
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "bundle.pem", "svid.pem"])
            .dir(&dir)
            .text()
            .await?;
        assert_eq!(verdict.trim(), "svid.pem: OK");
    }
    let text =
        Launch::new(&openssl).args(["x509", "-noout", "-text", "-in", "svid.pem"]).dir(&dir).text().await?;
    for expected in [
        "URI:spiffe://demo.org/db",
        "DNS:db.local",
        "CA:FALSE",
        "X509v3 Key Usage: critical",
        "Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
    ] {
        assert!(text.contains(expected), "no `{expected}` in:\n{text}");
    }
    assert!(!text.contains("Certificate Sign"), "{text}");
    assert_eq!(text.matches("URI:").count(), 1, "{text}");
    // The key is the certificate's.
    let of_key = Launch::new(&openssl).args(["pkey", "-pubout", "-in", "key.pem"]).dir(&dir).text().await?;
    let of_certificate =
        Launch::new(&openssl).args(["x509", "-noout", "-pubkey", "-in", "svid.pem"]).dir(&dir).text().await?;
    assert_eq!(of_key, of_certificate);
    Ok(())
}

/// `svidecar completions bash | true`, where the reader is gone before the first word.
#[tokio::test]
async fn a_reader_that_went_away_is_no_panic() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let uid = format!("unix:uid:{}", nix::unistd::getuid());
    stack.register("spiffe://demo.org/workload", &uid, &[]).await?;
    for program in [stack.binaries.server(), stack.binaries.agent(), stack.binaries.proxy()] {
        for arguments in [&["--help"][..], &["--version"], &["completions", "bash"], &["config", "schema"]] {
            assert_ends_quietly(&Launch::new(&program).args(arguments))?;
        }
    }
    assert_ends_quietly(&stack.server_cli(&["bundle", "show"]))?;
    assert_ends_quietly(&stack.server_cli(&["entry", "show", "-output", "json"]))?;
    assert_ends_quietly(&stack.agent_cli(&["healthcheck"]))?;
    assert_ends_quietly(&stack.agent_cli(&["api", "watch"]))
}

fn assert_ends_quietly(launch: &Launch) -> Result<()> {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let mut command = launch.blocking();
    let output = command.stdout(writer).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*told), (Some(1), ""), "{command:?}");
    Ok(())
}

#[tokio::test]
async fn misspelt_settings_are_all_reported_with_their_places() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let config = stack.dir().join("bad.yaml");
    fs::write(&config, "trust_domian: demo.org\ndata_dir: /tmp/x\nbind_port: eighty\n")?;
    let output =
        Launch::new(stack.binaries.server()).args(["validate", "-config"]).arg(&config).output().await?;
    assert!(!output.status.success());
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    for expected in ["bad.yaml:1:1", "trust_domain", "bad.yaml:3:12"] {
        assert!(said.contains(expected), "no `{expected}` in:\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_join_token_is_spent_by_its_first_agent() -> Result<()> {
    let mut stack = Stack::start(StackOptions::default()).await?;
    // Another machine with the same token: a fresh data_dir, so another key.
    let token = fs::read_to_string(stack.dir().join("join-token"))?;
    stack.agent.stop().await?;
    let config = stack.dir().join("thief.yaml");
    let text = fs::read_to_string(stack.dir().join("agent.yaml"))?;
    let dir = stack.dir().display().to_string();
    let text = text.replace(&format!("{dir}/agent"), &format!("{dir}/thief"));
    fs::write(&config, text)?;
    let thief = Launch::new(stack.binaries.agent()).args(["run", "-config"]).arg(&config).start("thief")?;
    stack.server.log.wait_for(&["already", "127.0.0.1"]).await?;
    thief.log.wait_for(&["already"]).await?;
    assert!(!stack.server.log.text().contains(token.trim()), "a token never appears in a log");
    Ok(())
}
