//! The built binary as a process: signals, the app beside it, exit codes.

use std::{net::SocketAddr, process::Stdio};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::support::{
    agent::{Agent, Says},
    authority::Authority,
    sidecar::POLICY,
    soon,
};

pub struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    _directory: tempfile::TempDir,
}

impl Process {
    fn start(agent: &Agent, app: &[&str]) -> Self {
        Self::start_under("exec \"$@\"", agent, "", app)
    }

    /// Starts with these listeners and [`POLICY`] as `policy.yaml`, by a script whose arguments are the command.
    pub fn start_under(script: &str, agent: &Agent, listeners: &str, app: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("policy.yaml"), POLICY).unwrap();
        let config = directory.path().join("svidecar.yaml");
        let text = format!(
            "workload_api: {}\nworkers: 2\nadmin: {{listen: \"127.0.0.1:0\"}}\n{listeners}",
            agent.endpoint()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_svidecar"), "run", "--config"]).arg(&config);
        if !app.is_empty() {
            command.arg("--").args(app);
        }
        // An app that reads its standard input waits for as long as the test holds the other end.
        let mut child =
            command.stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log, _directory: directory }
    }

    /// Waits for a line with these words.
    pub async fn says(&mut self, words: &str) -> String {
        soon(words, async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(words) {
                    return line;
                }
            }
            panic!("it ended and never said `{words}`");
        })
        .await
    }

    /// Waits for a line with these words, and takes the address out of it that follows `key`.
    pub async fn address(&mut self, words: &str, key: &str) -> SocketAddr {
        let line = self.says(words).await;
        let (_, rest) = line.split_once(&format!("{key}=")).unwrap_or_else(|| panic!("no {key} in {line}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub async fn exit_code(mut self) -> Option<i32> {
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

/// Programs that use select(2), or close all numbers up to the limit, rely on the small one.
#[tokio::test]
async fn the_app_gets_the_limit_of_open_files_that_we_got() {
    let agent = agent().await;
    let script = "ulimit -Sn 100; ulimit -Hn 512; exec \"$@\"";
    let app = ["/bin/sh", "-c", "test $(ulimit -Sn) = 100 && test $(ulimit -Hn) = 512"];
    let process = Process::start_under(script, &agent, "", &app);
    assert_eq!(process.exit_code().await, Some(0));
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
