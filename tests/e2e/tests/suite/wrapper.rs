//! One command for agent, sidecar and app, as a container that starts nothing else needs it.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use svidecar_e2e::{Tool, need};
use svidecar_stack::{Binaries, Launch, Process, Stack, StackOptions, binaries};

/// An app that says what it was told, and ends with 7 when it is asked to.
const APP: &str = r#"trap 'echo "app: told to stop"; kill $!; exit 7' TERM
echo "app: endpoint [$SPIFFE_ENDPOINT_SOCKET] token [$SVIDECAR_AGENT_JOIN_TOKEN]"
tail -f /dev/null & wait"#;

/// An app that leaves orphans behind and ends when all of them are buried.
const ORPHANS: &str = r#"for i in 1 2 3 4 5 6 7 8; do (true &); done
while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done
echo "app: no zombies, PID 1 is $(tr '\0' ' ' </proc/1/cmdline)"; exit 5"#;

/// PID 1 of its own PID namespace.
const AS_PID_1: [&str; 5] = ["--pid", "--fork", "--mount-proc", "--kill-child", "--"];

/// `svidecar-agent run … --`, for an agent of its own with the ID `/spire/agent/join_token/TOKEN`.
async fn agent(stack: &Stack, unshare: bool) -> Result<(Launch, String)> {
    let dir = stack.dir().display();
    std::fs::write(
        stack.dir().join("wrapper.yaml"),
        format!(
            "trust_domain: {}\ndata_dir: {dir}/wrapper\nserver_address: 127.0.0.1\nserver_port: {}\n\
             socket_path: wrapper/api.sock\n",
            Stack::TRUST_DOMAIN,
            stack.server_address().port()
        ),
    )?;
    let text = stack.server_cli(&["token", "generate", "-spiffeID", Stack::NODE]).text().await?;
    let token = text.lines().find_map(|line| line.strip_prefix("Token: ")).context("no token")?;
    // Where every user can run it.
    let program = binaries::place(&stack.binaries.agent(), &stack.dir().join("bin"))?;
    let launch =
        if unshare { Launch::new("unshare").args(AS_PID_1).arg(program) } else { Launch::new(program) };
    let launch = launch
        .args(["run", "--config", "wrapper.yaml", "--"])
        .env("SVIDECAR_AGENT_JOIN_TOKEN", token)
        .dir(stack.dir());
    let (bare, _) = token.split_once('.').context("the token has no hash")?;
    Ok((launch, format!("spiffe://{}/spire/agent/join_token/{bare}", Stack::TRUST_DOMAIN)))
}

/// A sidecar without listeners, which is ready when it has an identity.
async fn sidecar(stack: &Stack, more: &str) -> Result<Vec<String>> {
    let uid = format!("unix:uid:{}", nix::unistd::getuid());
    stack.register("spiffe://demo.org/app", &uid, &[]).await?;
    let config = stack.dir().join("sidecar.yaml");
    std::fs::write(&config, format!("admin: {{listen: \"off\"}}\n{more}"))?;
    let program = stack.binaries.proxy().display().to_string();
    Ok(vec![program, "run".into(), "--config".into(), config.display().to_string(), "--".into()])
}

async fn exit_code(process: &mut Process) -> Result<i32> {
    process.wait().await?.code().context("killed by a signal")
}

#[tokio::test]
async fn agent_sidecar_and_app_begin_and_end_as_one() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let (launch, _) = agent(&stack, false).await?;
    let launch = launch.args(sidecar(&stack, "").await?).args(["sh", "-c", APP]);
    let mut all = launch.start("all")?;
    // The sidecar found the agent by the variable alone, and the app began when the sidecar was ready.
    let said = all.log.wait_for(&["app: endpoint"]).await?;
    let socket = stack.dir().join("wrapper/api.sock");
    assert_eq!(said, format!("app: endpoint [unix://{}] token []", socket.display()));
    assert_eq!(all.log.lines_with("Ready; starting the app").len(), 1, "{}", all.log.tail(40));

    all.signal(Signal::SIGTERM)?;
    assert_eq!(exit_code(&mut all).await?, 7, "{}", all.log.tail(40));
    assert_eq!(all.log.lines_with("app: told to stop").len(), 1, "{}", all.log.tail(40));
    Ok(())
}

#[tokio::test]
async fn an_agent_that_cannot_go_on_stops_its_command_and_fails() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let (launch, id) = agent(&stack, false).await?;
    let mut all = launch.args(["sh", "-c", APP]).start("all")?;
    all.log.wait_for(&["agent is ready"]).await?;
    all.log.wait_for(&["app: endpoint"]).await?;
    stack.server_cli(&["agent", "evict", "-spiffeID", &id]).text().await?;
    assert_eq!(exit_code(&mut all).await?, 1, "{}", all.log.tail(40));
    for said in ["the agent cannot go on; stopping the command", "agent_evicted", "app: told to stop"] {
        assert!(!all.log.lines_with(said).is_empty(), "{said}:\n{}", all.log.tail(40));
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_that_cannot_begin_starts_nothing() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let (launch, _) = agent(&stack, false).await?;
    let mut all = launch.env("SVIDECAR_AGENT_JOIN_TOKEN", "a token").args(["sh", "-c", APP]).start("all")?;
    assert_eq!(exit_code(&mut all).await?, 1);
    assert!(!all.log.lines_with("bad_join_token").is_empty(), "{}", all.log.tail(40));
    assert!(all.log.lines_with("app:").is_empty(), "{}", all.log.tail(40));

    // On the command line, everybody can read it.
    let launch = Launch::new(stack.binaries.agent()).dir(stack.dir());
    let launch = launch.args(["run", "--config", "wrapper.yaml", "--join-token", "a token"]);
    let mut shown = launch.start("shown")?;
    assert_eq!(exit_code(&mut shown).await?, 1);
    for said in ["which /proc shows to every user", "bad_join_token"] {
        assert!(!shown.log.lines_with(said).is_empty(), "{said}:\n{}", shown.log.tail(40));
    }

    let (launch, _) = agent(&stack, false).await?;
    let mut all = launch.args(["/nonexistent/app"]).start("all")?;
    assert_eq!(exit_code(&mut all).await?, 1);
    assert!(!all.log.lines_with("cannot start /nonexistent/app").is_empty(), "{}", all.log.tail(40));
    Ok(())
}

/// As an image without a CMD comes to it.
#[tokio::test]
async fn without_a_command_nothing_starts() -> Result<()> {
    let binaries = Binaries::beside_this_program(None)?;
    for (program, code) in [(binaries.agent(), 1), (binaries.proxy(), 64)] {
        let mut launched =
            Launch::new(program).args(["run", "--config", "/nonexistent", "--"]).start("run")?;
        assert_eq!(exit_code(&mut launched).await?, code);
        assert_eq!(launched.log.lines_with("no_command").len(), 1, "{}", launched.log.text());
    }
    Ok(())
}

/// The agent's environment, with the token in it, is closed to processes of its own user.
#[tokio::test]
async fn the_agents_own_memory_and_environment_are_closed() -> Result<()> {
    // Only root can be another user, and make namespaces.
    let test = "the_agents_own_memory_and_environment_are_closed";
    let Some(_) = need(Tool::Namespaces, test)? else { return Ok(()) };
    let stack = Stack::start(StackOptions::default()).await?;
    let (launch, _) = agent(&stack, false).await?;
    let all = launch.args(["sh", "-c", "stat -c 'app: %u' /proc/$PPID/environ"]).user(54321);
    std::os::unix::fs::chown(stack.dir(), Some(54321), None)?;
    let mut all = all.start("all")?;
    assert_eq!(exit_code(&mut all).await?, 0, "{}", all.log.tail(40));
    assert_eq!(all.log.lines_with("app: 0").len(), 1, "{}", all.log.tail(40));
    Ok(())
}

#[tokio::test]
async fn pid_1_buries_orphans_whether_agent_or_sidecar() -> Result<()> {
    let test = "pid_1_buries_orphans_whether_agent_or_sidecar";
    let Some(_) = need(Tool::Namespaces, test)? else { return Ok(()) };
    let stack = Stack::start(StackOptions::default()).await?;
    let sidecar_alone = sidecar(&stack, &format!("workload_api: unix://{}\n", stack.agent_socket())).await?;
    let launch = Launch::new("unshare").args(AS_PID_1).args(&sidecar_alone).args(["sh", "-c", ORPHANS]);
    let mut alone = launch.start("sidecar")?;
    assert_eq!(exit_code(&mut alone).await?, 5, "{}", alone.log.tail(40));
    let said = alone.log.wait_for(&["app: no zombies"]).await?;
    assert!(said.contains("PID 1 is") && said.contains("svidecar run"), "{said}");

    let (launch, _) = agent(&stack, true).await?;
    let mut all = launch.args(["sh", "-c", ORPHANS]).start("all")?;
    assert_eq!(exit_code(&mut all).await?, 5, "{}", all.log.tail(40));
    let said = all.log.wait_for(&["app: no zombies"]).await?;
    assert!(said.contains("svidecar-agent run"), "{said}");
    Ok(())
}
