//! The command line as a process, against a server in this one, over its real socket.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use svidecar_config::server::ServerSettings;
use svidecar_id::TrustDomain;
use svidecar_process::testing::Hands;
use svidecar_server::run::Server;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A running server, and the way to ask it.
struct Fixture {
    directory: TempDir,
    socket: PathBuf,
    hands: Hands,
    shutdown: CancellationToken,
    server: Server,
}

/// What a command did.
struct Ran {
    ok: bool,
    out: String,
    err: String,
}

async fn fixture() -> Fixture {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("private").join("api.sock");
    let mut settings =
        ServerSettings::new(TrustDomain::parse("demo.org").unwrap(), directory.path().join("data"));
    settings.bind_port = 0;
    settings.socket_path = socket.clone();
    let shutdown = CancellationToken::new();
    let hands = Hands::running();
    let server = Server::start(settings, hands.clock(), None, shutdown.clone()).await.unwrap();
    Fixture { directory, socket, hands, shutdown, server }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command line as SPIRE's users write it.
    async fn run(&self, line: &str) -> Ran {
        self.run_with(line, String::new()).await
    }

    async fn run_with(&self, line: &str, stdin: String) -> Ran {
        let mut command = program(line);
        command.arg("-socketPath").arg(&self.socket);
        tokio::task::spawn_blocking(move || execute(command, &stdin)).await.unwrap()
    }

    /// As [`Self::run`], for a command that must succeed and say nothing on stderr.
    async fn must(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert!(ran.ok && ran.err.is_empty(), "{line}: {}{}", ran.out, ran.err);
        ran.out
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.must(&format!("{line} -output json")).await).unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.server.wait().await.unwrap();
    }
}

fn program(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svidecar-server"));
    command.args(line.split_whitespace()).env_clear();
    command
}

fn execute(mut command: Command, stdin: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may be gone already.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_live_as_scripts_expect() {
    let f = fixture().await;
    assert_eq!(f.must("healthcheck").await, "Server is healthy.\n");
    let created = f
        .must(
            "entry create -parentID spiffe://demo.org/node -spiffeID spiffe://demo.org/ops -selector unix:user:admin \
             -admin -x509SVIDTTL 60",
        )
        .await;
    let id = created.lines().next().unwrap().strip_prefix("Entry ID                : ").unwrap().to_owned();
    assert!(created.contains("Admin                   : true\n"), "{created}");
    assert_eq!(f.must(&format!("entry show -entryID {id}")).await, format!("Found 1 entry\n{created}"));

    let again = f
        .run("entry create -parentID spiffe://demo.org/node -spiffeID spiffe://demo.org/ops -selector unix:user:admin")
        .await;
    assert!(!again.ok && again.out.is_empty(), "{}", again.out);
    assert!(
        again.err.starts_with("Failed to create the following entry (code: AlreadyExists, msg: "),
        "{}",
        again.err
    );
    assert!(again.err.ends_with("Error: failed to create one or more entries\n"), "{}", again.err);

    let updated = f
        .json(&format!(
            "entry update -entryID {id} -parentID spiffe://demo.org/node -spiffeID spiffe://demo.org/ops \
             -selector unix:uid:7 -hint x"
        ))
        .await;
    assert_eq!(updated["results"][0]["entry"]["revision_number"], "1");
    assert_eq!(updated["results"][0]["entry"]["admin"], false);
    assert_eq!(f.must("entry count -selector unix:uid:7").await, "1 registration entry\n");

    let file = r#"{"entries": [
        {"spiffe_id": "spiffe://demo.org/a", "parent_id": "spiffe://demo.org/node", "selectors": [{"type": "u", "value": "1"}]},
        {"spiffe_id": "spiffe://demo.org/b", "parent_id": "spiffe://demo.org/node", "selectors": [{"type": "u", "value": "2"}]}
    ]}"#;
    let created = f.run_with("entry create -data -", file.to_owned()).await;
    assert!(created.ok, "{}", created.err);
    let shown = f.json("entry show -selector u:1 -matchSelectorsOn exact").await;
    assert_eq!(shown["entries"][0]["spiffe_id"]["path"], "/a");

    assert_eq!(
        f.must(&format!("entry delete -entryID {id}")).await,
        format!("Deleted entry with ID: {id}\n\n\nDeleted 1 entries successfully")
    );
    let gone = f.run(&format!("entry show -entryID {id}")).await;
    let expected =
        format!("Error: error fetching entry ID {id}: rpc error: code = NotFound desc = entry not found\n");
    assert_eq!((gone.ok, gone.err), (false, expected));
    f.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_applied_and_pruned() {
    let f = fixture().await;
    f.must("entry create -parentID spiffe://demo.org/n -spiffeID spiffe://demo.org/by-hand -selector a:b")
        .await;
    let entry = |name: &str| {
        format!(
            "entries:\n  - spiffe_id: spiffe://demo.org/{name}\n    parent_id: spiffe://demo.org/n\n    selectors: [\"a:{name}\"]\n"
        )
    };
    let files = f.path("entries");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("one.yaml"), entry("one")).unwrap();
    fs::write(files.join("two.yaml"), entry("two")).unwrap();
    let apply = format!("entry apply -f {}", files.display());

    let dry = f.must(&format!("{apply} --dry-run")).await;
    assert!(dry.ends_with("2 to create, 0 to change, 0 to delete, 0 unchanged\n"), "{dry}");
    assert_eq!(f.must("entry count").await, "1 registration entry\n");
    f.must(&apply).await;
    assert_eq!(f.must(&apply).await, "0 to create, 0 to change, 0 to delete, 2 unchanged\n");

    fs::remove_file(files.join("one.yaml")).unwrap();
    fs::write(files.join("two.yaml"), format!("{}    hint: new\n", entry("two"))).unwrap();
    let changed = f.must(&format!("{apply} --prune")).await;
    assert!(changed.contains("    hint: (none) -> new\n"), "{changed}");
    assert!(changed.contains("- spiffe://demo.org/one"), "{changed}");
    let left = f.json("entry show").await;
    let left: Vec<_> =
        left["entries"].as_array().unwrap().iter().map(|entry| entry["spiffe_id"]["path"].clone()).collect();
    assert_eq!(left, ["/by-hand", "/two"]);

    fs::write(files.join("two.yaml"), entry("two").replace("parent_id", "parent")).unwrap();
    let refused = f.run(&apply).await;
    assert!(!refused.ok && refused.err.contains("two.yaml:3:5"), "{}", refused.err);
    f.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_bundles_and_agents() {
    let f = fixture().await;
    let token = f.must("token generate").await;
    assert!(token.starts_with("Token: ") && token.ends_with("\nWarning: Missing SPIFFE ID.\n"), "{token}");
    let token = f.json("token generate -ttl 60 -spiffeID spiffe://demo.org/node").await;
    assert!(token["value"].as_str().unwrap().len() > 36 && token["expires_at"].is_string());
    let token = f.run("token generate -reusable -ttl 720h -spiffeID spiffe://demo.org/fly").await;
    assert!(token.ok && token.out.starts_with("Token: ") && token.out.lines().count() == 1, "{}", token.out);
    assert!(
        token.err.contains("Whoever has it can be spiffe://demo.org/spire/agent/join_token/"),
        "{}",
        token.err
    );
    let listed = f.must("token list").await;
    assert!(listed.starts_with("Found 3 join tokens:\n"), "{listed}");
    assert_eq!(listed.matches("Reusable          : true").count(), 1, "{listed}");
    assert!(!listed.contains(token.out.trim_start_matches("Token: ").split('.').next().unwrap()), "{listed}");
    let listed = f.json("token list").await;
    let one = listed["tokens"].as_array().unwrap().iter().find(|token| token["reusable"] == true).unwrap();
    let deleted = f.must(&format!("token delete -id {}", one["id"].as_str().unwrap())).await;
    assert!(deleted.starts_with("Join token deleted"), "{deleted}");
    assert!(f.must("token list").await.starts_with("Found 2 join tokens:\n"));
    assert_eq!(f.must("agent list").await, "No attested agents found\n");
    assert_eq!(f.must("agent count").await, "0 attested agents\n");
    assert_eq!(f.must("agent purge").await, "No agents to purge.\n");

    let pem = f.must("bundle show").await;
    let set = f.run_with("bundle set -id spiffe://partner.org", pem.clone()).await;
    assert_eq!((set.ok, set.out.as_str()), (true, "bundle set.\n"), "{}", set.err);
    let line = "*".repeat(40);
    assert_eq!(f.must("bundle list").await, format!("{line}\n* partner.org\n{line}\n{pem}"));
    assert_eq!(f.must("bundle list -id partner.org").await, pem);
    f.must("entry create -parentID spiffe://demo.org/n -spiffeID spiffe://demo.org/a -selector a:b -federatesWith partner.org")
        .await;
    let kept = f.run("bundle delete -id partner.org").await;
    assert!(!kept.ok && kept.err.contains("federated with 1 registration entries"), "{}", kept.err);
    assert_eq!(f.must("bundle delete -id partner.org -mode dissociate").await, "bundle deleted.\n");
    let document: Value = serde_json::from_str(&f.must("bundle show -format spiffe").await).unwrap();
    assert_eq!(document["keys"][0]["use"], "x509-svid");
    f.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_minted_can_be_used() {
    let f = fixture().await;
    let directory = f.directory.path().display();
    f.must(&format!("x509 mint -spiffeID spiffe://demo.org/m -dns m.internal -ttl 10m -write {directory}"))
        .await;
    let mode = |name: &str| fs::metadata(f.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["svid.pem", "key.pem", "bundle.pem"].map(mode), [0o644, 0o600, 0o644]);
    let verified = Command::new("openssl")
        .args(["verify", "-CAfile"])
        .arg(f.path("bundle.pem"))
        .arg(f.path("svid.pem"))
        .output()
        .unwrap_or_else(|error| panic!("openssl is needed for this test (apt-get install openssl): {error}"));
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let token = f.must("jwt mint -spiffeID spiffe://demo.org/m -audience a -audience b").await;
    assert_eq!(token.trim_end().split('.').count(), 3);
    let path = f.path("token");
    let written = f
        .must(&format!("jwt mint -spiffeID spiffe://demo.org/m -audience a -write {}", path.display()))
        .await;
    assert_eq!(written, format!("JWT-SVID written to {}\n", path.display()));
    assert_eq!(mode("token"), 0o600);

    let capped = f.run("x509 mint -spiffeID spiffe://demo.org/m -ttl 1000h").await;
    assert!(
        capped.ok && capped.out.starts_with("X509-SVID:\n-----BEGIN CERTIFICATE-----\n"),
        "{}",
        capped.out
    );
    assert!(capped.err.starts_with("X509-SVID lifetime was capped shorter than specified ttl; expires \""));
    f.stop().await;
}

/// Neither a server nor its settings: what to do is said, and the exit code is SPIRE's.
#[test]
fn failures_say_what_to_do() {
    let run = |line: &str| execute(program(line), "");
    let missing = run("entry show -socketPath /nonexistent/api.sock");
    assert!(!missing.ok && missing.out.is_empty());
    assert!(missing.err.contains("there is no socket /nonexistent/api.sock"), "{}", missing.err);
    assert!(missing.err.contains("Start it with `svidecar-server run`"), "{}", missing.err);
    let unset = run("run");
    assert!(!unset.ok && unset.err.contains("`trust_domain` is missing"), "{}", unset.err);
    let misspelt = run("entry create -spifeID x");
    assert!(!misspelt.ok && misspelt.err.contains("--spiffe-id"), "{}", misspelt.err);
    let help = run("entry --help");
    assert!(help.ok && help.out.contains("apply"), "{}", help.out);
    assert!(run("completions bash").out.contains("svidecar-server"));
    let schema: Value = serde_json::from_str(&run("config schema").out).unwrap();
    assert!(schema["properties"]["trust_domain"].is_object());
}

#[test]
fn settings_are_shown_with_their_origin_and_validated() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server.yaml");
    fs::write(&file, "trust_domain: demo.org\ndata_dir: /var/lib/x\nca_ttl: 12h\n").unwrap();
    let show = |more: &str| {
        let mut command = program(&format!("config show -config {} {more}", file.display()));
        command.env("SVIDECAR_SERVER_LOG__LEVEL", "debug");
        execute(command, "").out
    };
    let short = show("");
    assert!(short.contains("ca_ttl") && short.contains(":3:9") && !short.contains("default"), "{short}");
    assert!(short.contains("environment variable SVIDECAR_SERVER_LOG__LEVEL"), "{short}");
    assert!(show("--effective").contains("default"));
    let json: Value = serde_json::from_str(&show("--effective -o json")).unwrap();
    assert!(json.as_array().unwrap().iter().any(|setting| setting["key"] == "jwt_issuer"));

    let validate = |file: &Path| execute(program(&format!("validate -config {}", file.display())), "");
    assert!(validate(&file).ok);
    fs::write(&file, "trust_domain: demo.org\ndata_dir: /var/lib/x\nca_ttl: 1h\n").unwrap();
    let refused = validate(&file);
    assert!(!refused.ok && refused.err.contains("10m"), "{}", refused.err);
}

#[tokio::test]
async fn bootstrap_may_run_again_and_again() {
    let server = fixture().await;
    let (token, entries) = (server.path("token"), server.path("entries.yaml"));
    let shop = "{spiffe_id: spiffe://demo.org/shop, parent_id: spiffe://demo.org/node, selectors: [\"unix:uid:1001\"]}";
    let till = "{spiffe_id: spiffe://demo.org/till, parent_id: spiffe://demo.org/node, selectors: [\"unix:uid:1002\"]}";
    fs::write(&entries, format!("entries: [{shop}, {till}]\n")).unwrap();
    let line = format!(
        "bootstrap -agentID spiffe://demo.org/node --join-token-file {} -f {} --prune",
        token.display(),
        entries.display()
    );

    let first = server.run(&line).await;
    assert!(first.ok, "{}", first.err);
    assert!(
        first.out.contains("[bootstrap] creating entry for spiffe://demo.org/shop (unix:uid:1001)\n"),
        "{}",
        first.out
    );
    assert!(first.out.ends_with("[bootstrap] done\n"), "{}", first.out);
    let mode = fs::metadata(&token).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let first_token = fs::read_to_string(&token).unwrap();

    let second = server.run(&line).await;
    assert!(second.ok, "{}", second.err);
    assert!(!second.out.contains("creating entry"), "{}", second.out);
    assert!(second.out.contains("[bootstrap] 2 entries are there already\n"), "{}", second.out);
    assert_ne!(fs::read_to_string(&token).unwrap(), first_token);
    // Two entries and the name of one agent: nothing is left of the token that nobody used.
    assert_eq!(server.run("entry count").await.out, "3 registration entries\n");

    fs::write(&entries, format!("entries: [{shop}]\n")).unwrap();
    let third = server.run(&line).await;
    assert!(
        third.out.contains("[bootstrap] deleting entry for spiffe://demo.org/till (unix:uid:1002)\n"),
        "{}",
        third.out
    );
    assert!(third.out.contains("[bootstrap] 1 entry is there already\n"), "{}", third.out);
}

/// An agent that read the first token and waits has to find it refused: it has no name any more.
#[tokio::test]
async fn bootstrap_deletes_the_token_before_and_only_what_is_of_it() {
    let server = fixture().await;
    let file = server.path("token");
    let line = format!("bootstrap -agentID spiffe://demo.org/node --join-token-file {}", file.display());
    assert!(server.run(&line).await.ok);
    let first = fs::read_to_string(&file).unwrap();
    let agent = format!("spiffe://demo.org/spire/agent/join_token/{}", first.split_once('.').unwrap().0);
    let own = format!("entry create -parentID {agent} -spiffeID spiffe://demo.org/own -selector unix:uid:1");
    assert!(server.run(&own).await.ok);

    let second = server.run(&line).await;
    assert!(second.ok, "{}", second.err);
    let tokens = server.run("token list").await.out;
    assert!(tokens.starts_with("Found 1 join token:"), "{tokens}");
    // The new agent's name, and what somebody made for the agent before.
    assert_eq!(server.run("entry count").await.out, "2 registration entries\n");
    let kept = server.run(&format!("entry show -parentID {agent}")).await.out;
    assert!(kept.contains("spiffe://demo.org/own"), "{kept}");
}

/// `--wait` is an end also where somebody takes the connection and says nothing.
#[tokio::test]
async fn bootstrap_does_not_wait_for_a_silent_server_for_ever() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("api.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let line = format!(
        "bootstrap -agentID spiffe://demo.org/node --join-token-file {} --wait 0s -socketPath {}",
        directory.path().join("token").display(),
        socket.display()
    );
    let ran = tokio::task::spawn_blocking(move || execute(program(&line), ""));
    let ran = tokio::time::timeout(std::time::Duration::from_secs(60), ran).await.unwrap().unwrap();
    assert!(!ran.ok);
    assert!(ran.err.contains("did not answer"), "{}", ran.err);
}

#[tokio::test]
async fn bootstrap_says_which_server_it_waited_for() {
    let server = fixture().await;
    let line = format!(
        "bootstrap -agentID spiffe://demo.org/node --join-token-file {} --wait 0s -socketPath /nonexistent/api.sock",
        server.path("token").display()
    );
    let ran = tokio::task::spawn_blocking(move || execute(program(&line), "")).await.unwrap();
    assert!(!ran.ok);
    assert!(ran.err.contains("/nonexistent/api.sock"), "{}", ran.err);
}

/// A clock that was set is shown, accepted by a person and by nobody else, and nothing is deleted by it before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_not_believed_is_shown_and_accepted() {
    let fixture = fixture().await;
    assert!(fixture.must("clock show").await.contains("Believed          : yes"));
    assert_eq!(fixture.json("clock accept").await["believed"], true, "there is nothing to accept");
    fixture.hands.set(26 * 3600);
    let shown = fixture.must("clock show").await;
    assert!(shown.contains("Believed          : no") && shown.contains("s forward: it shows"), "{shown}");
    for line in ["clock accept", "agent purge"] {
        let ran = fixture.run(line).await;
        assert!(!ran.ok && ran.err.contains("s forward: it shows"), "{line}: {}{}", ran.out, ran.err);
    }
    fixture.must("agent purge -dryRun").await;
    let status = fixture.json("clock accept --yes").await;
    assert!(status["believed"] == true && status["doubt"] == "", "{status}");
    fixture.must("agent purge").await;
    fixture.stop().await;
}
