//! The built binary as a process: signals, the app beside it, exit codes.

use std::process::Stdio;

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::support::{
    agent::{Agent, Says},
    authority::Authority,
    soon,
};

struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    _directory: tempfile::TempDir,
}

impl Process {
    fn start(agent: &Agent, app: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("svidecar.yaml");
        let text = format!("workload_api: {}\nadmin: {{listen: \"127.0.0.1:0\"}}\n", agent.endpoint());
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_svidecar"));
        command.arg("run").arg("--config").arg(&config);
        if !app.is_empty() {
            command.arg("--").args(app);
        }
        // An app that reads its standard input waits for as long as the test holds the other end.
        let mut child =
            command.stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log, _directory: directory }
    }

    async fn says(&mut self, words: &str) {
        soon(words, async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it ended and never said `{words}`");
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    async fn exit_code(mut self) -> Option<i32> {
        // `Child::wait` closes the standard input, which would end an app that reads it.
        let _stdin = self.child.stdin.take();
        // The log is read on, so that nobody waits for us.
        let (status, ()) = soon("the end of the process", async {
            tokio::join!(self.child.wait(), async { while let Ok(Some(_)) = self.log.next_line().await {} })
        })
        .await;
        status.unwrap().code()
    }
}

async fn agent() -> Agent {
    let authority = Authority::new("demo.org");
    Agent::start(Says::Gives(authority.response("/shop", &[]))).await
}

#[tokio::test]
async fn the_app_starts_when_ready_and_its_exit_code_is_ours() {
    let agent = agent().await;
    let process = Process::start(&agent, &["/bin/sh", "-c", "test -n \"$SVIDECAR_ADMIN\" && exit 7"]);
    assert_eq!(process.exit_code().await, Some(7));
}

#[tokio::test]
async fn a_signal_reaches_the_app_and_ends_both() {
    let agent = agent().await;
    let script = "trap 'exit 9' TERM; echo app is up >&2; read _";
    let mut process = Process::start(&agent, &["/bin/sh", "-c", script]);
    process.says("app is up").await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code().await, Some(9));
}

#[tokio::test]
async fn the_app_waits_for_the_identity() {
    let agent = Agent::start(Says::Denied).await;
    let mut process = Process::start(&agent, &["/bin/sh", "-c", "exit 5"]);
    process.says("The app waits until the proxy is ready").await;
    agent.says(Says::Gives(Authority::new("demo.org").response("/shop", &[])));
    assert_eq!(process.exit_code().await, Some(5));
}

#[tokio::test]
async fn without_an_app_a_signal_ends_it_with_zero() {
    let agent = agent().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut process = Process::start(&agent, &[]);
        process.says("The proxy is ready").await;
        process.signal(signal);
        assert_eq!(process.exit_code().await, Some(0));
    }
}

/// An app that does not listen to SIGTERM does not hold the second signal up.
#[tokio::test]
async fn a_second_signal_forces() {
    let agent = agent().await;
    let script = "trap '' TERM; echo app is up >&2; read _";
    let mut process = Process::start(&agent, &["/bin/sh", "-c", script]);
    process.says("app is up").await;
    process.signal(Signal::SIGTERM);
    process.says("Stopping").await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code().await, Some(137));
}
