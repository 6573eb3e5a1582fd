//! The built binary when nobody reads what it logs.

use std::{
    io::{BufRead as _, PipeReader},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Stdio,
};

use http::StatusCode;
use nix::{sys::signal::Signal, unistd::Pid};
use svidecar_process::testing::full_pipe;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::support::{
    agent::{Agent, Says},
    authority::Authority,
    client,
    sidecar::POLICY,
    soon,
};

/// The proxy with an app, which says where the proxy's admin is and lives until a signal.
struct Unread {
    _agent: Agent,
    directory: tempfile::TempDir,
    child: Child,
    admin: std::net::SocketAddr,
}

impl Unread {
    /// Starts it with the full pipe as the stream that `settings` log to. The app's word comes on the other one.
    async fn start(settings: &str, streams: impl FnOnce(&mut Command) -> &'static str) -> Self {
        let agent = Agent::start(Says::Gives(Authority::new("demo.org").response("/orders", &[]))).await;
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("policy.yaml"), POLICY).unwrap();
        let text = format!(
            "workload_api: {}\nworkers: 2\nadmin: {{listen: \"127.0.0.1:0\"}}\n{settings}\ninbound: \
             [{{name: orders, listen: \"unix:{}\", forward: \"127.0.0.1:1\", policy: policy.yaml}}]\n",
            agent.endpoint(),
            directory.path().join("orders.sock").display()
        );
        let config = directory.path().join("svidecar.yaml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_svidecar"));
        command.arg("run").arg("--config").arg(&config).kill_on_drop(true);
        let script = streams(&mut command);
        let mut child = command.args(["--", "/bin/sh", "-c", script]).spawn().unwrap();
        let word: Box<dyn AsyncRead + Send + Unpin> = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), _) => Box::new(stdout),
            (None, stderr) => Box::new(stderr.unwrap()),
        };
        let mut lines = BufReader::new(word).lines();
        let admin = soon("the app's word", async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap();
                if let Some(address) = line.strip_prefix("http://") {
                    break address.parse().unwrap();
                }
            }
        })
        .await;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _agent: agent, directory, child, admin }
    }

    fn orders(&self) -> PathBuf {
        self.directory.path().join("orders.sock")
    }

    /// Causes lines of both logs until the metric is no zero any more; the workers answer all the while.
    async fn until_dropped(&self, metric: &str) {
        soon(metric, async {
            loop {
                for _ in 0..500 {
                    drop(UnixStream::connect(self.orders()).unwrap());
                }
                assert_eq!(client::plain_get(self.admin, "/ready").await.status, StatusCode::OK);
                let metrics = client::plain_get(self.admin, "/metrics").await.body;
                if !metrics.contains(&format!("\n{metric} 0\n")) {
                    return;
                }
            }
        })
        .await;
    }

    async fn ends_by_a_signal(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let status = soon("the end of the process", self.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(143));
    }
}

fn says(pipe: PipeReader, words: &str) -> bool {
    std::io::BufReader::new(pipe).lines().any(|line| line.unwrap().contains(words))
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_neither_workers_nor_probes_nor_the_end() {
    let (log, full) = full_pipe().unwrap();
    let process = Unread::start("log: {level: debug}\naccess_log: {format: off}", |command| {
        command.stdout(Stdio::piped()).stderr(full);
        "echo \"$SVIDECAR_ADMIN\"; exec tail -f /dev/null"
    })
    .await;
    process.until_dropped("svidecar_log_dropped_lines_total").await;
    process.ends_by_a_signal().await;
    drop(log);
}

#[tokio::test]
async fn lines_that_were_lost_are_said_when_somebody_reads_again() {
    let (log, full) = full_pipe().unwrap();
    let process = Unread::start("log: {level: debug}\naccess_log: {format: off}", |command| {
        command.stdout(Stdio::piped()).stderr(full);
        "echo \"$SVIDECAR_ADMIN\"; exec tail -f /dev/null"
    })
    .await;
    process.until_dropped("svidecar_log_dropped_lines_total").await;
    let reader = tokio::task::spawn_blocking(|| says(log, "lines of it are lost"));
    assert!(soon("a line about what was lost", reader).await.unwrap());
    drop(process);
}

#[tokio::test]
async fn an_access_log_that_nobody_reads_stops_nothing_either() {
    let (log, full) = full_pipe().unwrap();
    let process = Unread::start("access_log: {path: stdout}", |command| {
        command.stdout(full).stderr(Stdio::piped());
        "echo \"$SVIDECAR_ADMIN\" >&2; exec tail -f /dev/null"
    })
    .await;
    // Of a stranger few lines are written, and the rest is counted.
    process.until_dropped("svidecar_lines_kept_back_total").await;
    process.ends_by_a_signal().await;
    drop(log);
}
