//! The conductor of `make demo`: starts everything, tells the story, checks each thing it tells, stops everything.
//!
//! Whatever way it ends, no process stays: it stops them itself when it can, and each runs under a guard that the
//! kernel ends with it when it cannot.

mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Uid;
use story::{Story, words};
use svidecar_stack::sidecar::Spec;
use svidecar_stack::{Launch, Process, Sidecar, Stack, StackOptions, binaries};
use tokio::signal::unix::{SignalKind, signal};

const SERVER_ID: &str = "spiffe://demo.org/workload/demo-server";
const CLIENT_ID: &str = "spiffe://demo.org/workload/demo-client";
/// Who runs each side when root starts the demo.
const SERVER_UID: u32 = 1001;
const CLIENT_UID: u32 = 1002;
/// The lifetime of the two SVIDs, in seconds: short enough to see a rotation.
const SVID_TTL: &str = "20";
/// What a sidecar says at its first SVID, and at each later one.
const OBTAINED: &str = "Obtained SVID: ";
const ROTATED: &str = "Rotated SVID: ";

const POLICY: &str = "\
service: demo-server
default: deny
rules:
  - name: client-may-read
    from: [spiffe://demo.org/workload/demo-client]
    to: [{methods: [GET], paths: [\"/api/**\", /health]}]
  - name: nobody-reads-secrets
    action: deny
    from: [\"spiffe://demo.org/**\"]
    to: [{paths: [\"/api/secrets/**\"]}]
tests:
  - {peer: spiffe://demo.org/workload/demo-client, request: GET /api/hello, expect: allow}
  - {peer: spiffe://demo.org/workload/demo-client, request: GET /api/secrets/key, expect: deny}
  - {peer: spiffe://demo.org/workload/other, request: GET /api/hello, expect: deny}
";

/// Everyone who plays, in the order in which they are stopped.
#[derive(Default)]
struct Cast {
    client_sidecar: Option<Sidecar>,
    server_sidecar: Option<Sidecar>,
    app: Option<Process>,
    stack: Option<Stack>,
}

impl Cast {
    /// Stops everyone who is still there; who does not go is killed when dropped.
    async fn leave(mut self) {
        for sidecar in [&mut self.client_sidecar, &mut self.server_sidecar].into_iter().flatten() {
            let _ = sidecar.process.stop().await;
        }
        if let Some(app) = &mut self.app {
            let _ = app.stop().await;
        }
        if let Some(stack) = &mut self.stack {
            let _ = stack.stop().await;
        }
    }
}

/// How one side of the demo is told from the other.
struct Side {
    name: &'static str,
    id: &'static str,
    selector: String,
    program: PathBuf,
    user: Option<u32>,
}

impl Side {
    /// Root gives each side a user of its own; a plain user gives each a copy of the proxy of its own.
    fn new(stack: &Stack, name: &'static str, id: &'static str, uid: u32) -> Result<Self> {
        let program = binaries::place(&stack.binaries.proxy(), &stack.dir().join(name))?;
        let root = Uid::effective().is_root();
        let selector =
            if root { format!("unix:uid:{uid}") } else { format!("unix:path:{}", program.display()) };
        Ok(Self { name, id, selector, program, user: root.then_some(uid) })
    }

    /// A program of the demo, as this side's user.
    fn launch(&self, stack: &Stack, args: &[&str]) -> Result<Launch> {
        let program = binaries::place(&stack.binaries.demo(), &stack.dir().join(self.name))?;
        let launch = stack.guarded(Launch::new(program).args(args));
        Ok(match self.user {
            Some(uid) => launch.user(uid),
            None => launch,
        })
    }

    fn sidecar(&self, spec: Spec) -> Spec {
        let spec = spec.program(&self.program);
        match self.user {
            Some(uid) => spec.user(uid),
            None => spec,
        }
    }
}

/// Tells the story. Exit code 0 only if all of it happened; 130 when interrupted.
///
/// # Errors
/// What went differently, with the last words of the part that it happened to.
pub async fn run(keep: bool) -> Result<ExitCode> {
    let (mut story, mut cast) = (Story::new(), Cast::default());
    let outcome = tokio::select! {
        biased;
        stopped = interruption() => stopped.map(|()| None),
        played = play(&mut story, &mut cast) => played.map(Some),
    };
    let happened = matches!(outcome, Ok(Some(())));
    if happened && keep {
        how_to_poke(&story, &cast)?;
        interruption().await?;
    }
    story.heading(match (happened, &outcome) {
        (true, _) => "All of it happened. Stopping everything.",
        (false, Ok(_)) => "Interrupted. Stopping everything.",
        (false, Err(_)) => "It did not happen as told. Stopping everything.",
    });
    cast.leave().await;
    Ok(if outcome?.is_some() { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

/// Ctrl-C, or a polite end from outside.
async fn interruption() -> Result<()> {
    let [mut interrupt, mut terminate, mut hangup] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

async fn play(story: &mut Story, cast: &mut Cast) -> Result<()> {
    story.step("A trust domain: demo.org has a server, and this machine has an agent");
    let options = StackOptions {
        agent: "unix: {discover_workload_path: true}\n".to_owned(),
        guarded: true,
        ..StackOptions::default()
    };
    let stack = cast.stack.insert(Stack::start(options).await?);
    story.said("server", words(&stack.server.log.wait_for(&["server is ready"]).await?));
    story.said("agent", words(&stack.agent.log.wait_for(&["agent is ready"]).await?));

    story.step("Two workloads are registered, each told by what the kernel says of its process");
    let server_side = Side::new(stack, "server-side", SERVER_ID, SERVER_UID)?;
    let client_side = Side::new(stack, "client-side", CLIENT_ID, CLIENT_UID)?;
    for side in [&server_side, &client_side] {
        let entry = stack.register(side.id, &side.selector, &["-x509SVIDTTL", SVID_TTL]).await?;
        story.said("server", &format!("entry {entry}: {} for {}", side.id, side.selector));
    }

    story.step("A plain HTTP app behind one sidecar, a plain HTTP client behind another");
    let app = cast.app.insert(server_side.launch(stack, &["app"])?.start("app")?);
    let said = app.log.wait_for(&["listening on "]).await?;
    story.said("app", &said);
    let address = said.rsplit(' ').next().context("the app did not say where it listens")?;
    let inbound = Spec::new().inbound("http", address, POLICY);
    let server_sidecar =
        cast.server_sidecar.insert(server_side.sidecar(inbound).start(stack, "server-side")?);
    server_sidecar.ready().await?;
    let obtained = server_sidecar.process.log.wait_for(&[OBTAINED, SERVER_ID]).await?;
    story.said("server sidecar", words(&obtained));
    let outbound = Spec::new().outbound("http", server_sidecar.inbound()?, SERVER_ID);
    let client_sidecar =
        cast.client_sidecar.insert(client_side.sidecar(outbound).start(stack, "client-side")?);
    client_sidecar.ready().await?;
    let obtained = client_sidecar.process.log.wait_for(&[OBTAINED, CLIENT_ID]).await?;
    story.said("client sidecar", words(&obtained));

    let scene = Scene { stack, client_side: &client_side, client_sidecar, server_sidecar };
    scene.request(story).await?;
    scene.refusal(story).await?;
    scene.spoofed_header(story).await?;
    scene.rotation(story).await
}

/// Everyone is on stage.
struct Scene<'a> {
    stack: &'a Stack,
    client_side: &'a Side,
    client_sidecar: &'a Sidecar,
    server_sidecar: &'a Sidecar,
}

impl Scene<'_> {
    /// The plain client, at its own sidecar.
    fn client(&self, args: &[&str]) -> Result<Launch> {
        let address = self.client_sidecar.outbound()?.to_string();
        Ok(self.client_side.launch(self.stack, &["client", &address])?.args(args))
    }

    async fn request(&self, story: &mut Story) -> Result<()> {
        story.step("A request: plain on both ends, mutual TLS between the sidecars");
        let said = self.client(&["/api/hello"])?.text().await?;
        let server = self.client_sidecar.process.log.wait_for(&["Server SVID: ", SERVER_ID]).await?;
        story.said("client sidecar", words(&server));
        let client = self.server_sidecar.process.log.wait_for(&["Client SPIFFE ID: ", CLIENT_ID]).await?;
        story.said("server sidecar", words(&client));
        said.lines().for_each(|line| story.said("client", line));
        ensure!(said.contains("mTLS request succeeded (status 200 OK)"), "the client did not succeed");
        story.proved("the app, which knows nothing of TLS, learnt who called");
        Ok(())
    }

    async fn refusal(&self, story: &mut Story) -> Result<()> {
        story.step("A request that the policy refuses");
        let position = self.server_sidecar.process.log.position();
        let output = self.client(&["/api/secrets/key"])?.output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().for_each(|line| story.said("client", line));
        ensure!(said.contains("403") && !output.status.success(), "the request was not refused: {said}");
        let log = &self.server_sidecar.process.log;
        let record = log.wait_from(position, &["/api/secrets/key", "nobody-reads-secrets"]).await?;
        story.said("server sidecar", &decision(&record)?);
        story.proved("refused by the rule `nobody-reads-secrets`, before the app saw anything");
        Ok(())
    }

    async fn spoofed_header(&self, story: &mut Story) -> Result<()> {
        story.step("A caller who writes itself another identity into the headers");
        let spoofed = "spiffe://demo.org/admin";
        let headers = [
            format!("x-spiffe-id: {spoofed}"),
            format!("X_SPIFFE_ID: {spoofed}"),
            format!("X-Forwarded-Client-Cert: URI={spoofed}"),
        ];
        for header in &headers {
            story.said("client", &format!("sends {header}"));
        }
        let [first, second, third] = &headers;
        let said = self.client(&["/api/echo", "-H", first, "-H", second, "-H", third])?.text().await?;
        said.lines().for_each(|line| story.said("client", line));
        ensure!(!said.contains(spoofed), "the app saw the spoofed identity");
        ensure!(
            said.contains(&format!("\"x-spiffe-id\":[\"{CLIENT_ID}\"]")),
            "the app did not see the true one"
        );
        story.proved("the app saw the verified identity alone");
        Ok(())
    }

    async fn rotation(&self, story: &mut Story) -> Result<()> {
        story.step("Both SVIDs rotate in the middle of traffic (a few seconds)");
        let sidecars = [
            ("client sidecar", self.client_sidecar, CLIENT_ID),
            ("server sidecar", self.server_sidecar, SERVER_ID),
        ];
        let positions = sidecars.map(|(_, sidecar, _)| sidecar.process.log.position());
        let mut traffic = self.client(&["/api/hello", "--repeat"])?.start("client")?;
        for ((part, sidecar, id), position) in sidecars.into_iter().zip(positions) {
            let rotated = sidecar.process.log.wait_from(position, &[ROTATED, id]).await?;
            story.said(part, words(&rotated));
        }
        let status = traffic.stop().await?;
        let said = traffic.log.text();
        said.lines().for_each(|line| story.said("client", line));
        if !status.success() || !said.contains(" 0 failed") {
            bail!("requests failed across the rotation");
        }
        story.proved("not one request failed");
        Ok(())
    }
}

/// What the access log says of a decision, in one short line.
fn decision(record: &str) -> Result<String> {
    let record: serde_json::Value = serde_json::from_str(record).context("the access log is not JSON")?;
    let field = |name: &str| record.get(name).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
    Ok(format!(
        "peer={} method={} path={} decision={} rule={} code={}",
        field("peer"),
        field("method"),
        field("path"),
        field("decision"),
        field("rule"),
        field("code"),
    ))
}

/// What a reader can try while it runs.
fn how_to_poke(story: &Story, cast: &Cast) -> Result<()> {
    let (stack, client, server) = cast
        .stack
        .as_ref()
        .zip(cast.client_sidecar.as_ref())
        .zip(cast.server_sidecar.as_ref())
        .map(|((stack, client), server)| (stack, client, server))
        .context("nobody is there")?;
    let bin = stack.binaries.dir().display();
    story.heading("It is running. Poke at it:");
    story.note(&format!("curl http://{}/api/hello", client.outbound()?));
    story.note(&format!("curl http://{}/api/secrets/key", client.outbound()?));
    story.note(&format!("curl http://{}/certs http://{}/metrics", client.admin, server.admin));
    story.note(&format!("{bin}/svidecar-server entry show -socketPath {}", stack.server_socket()));
    story.note(&format!("{bin}/svidecar-agent api fetch -socketPath {}", stack.agent_socket()));
    story.note(&format!("edit {} and watch it reload", server.policy.display()));
    story.heading("Press Ctrl-C to stop everything.");
    Ok(())
}
