//! The built binary as a process: for what only a process has, such as the memory that it takes.

use std::{net::SocketAddr, path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{agent::Agent, soon};

pub struct Process {
    /// Where its only listener is.
    pub listener: SocketAddr,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Process {
    /// Starts it, or the one that the variable `SVIDECAR` names, with one listener, and returns when it is ready.
    pub async fn start(agent: &Agent, listener: &str, policy: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("svidecar.yaml");
        let head = format!(
            "workload_api: {}\nworkers: 1\nadmin: {{listen: \"off\"}}\naccess_log: {{path: {}}}\n",
            agent.endpoint(),
            directory.path().join("access.log").display()
        );
        std::fs::write(directory.path().join("policy.yaml"), policy).unwrap();
        std::fs::write(&config, head + listener).unwrap();
        let program = std::env::var_os("SVIDECAR").unwrap_or_else(|| env!("CARGO_BIN_EXE_svidecar").into());
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&config);
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        soon("a proxy that is ready", async {
            while let Some(line) = log.next_line().await.unwrap() {
                if line.contains("Listening") {
                    address = address_in(&line);
                }
                if line.contains("The proxy is ready") {
                    return;
                }
            }
            panic!("the proxy ended before it was ready");
        })
        .await;
        // Nobody waits for us to read the rest.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { listener: address.unwrap(), child, _directory: directory }
    }

    /// The most memory that it took since the last [`forget_peak`](Self::forget_peak), in bytes.
    pub fn peak(&self) -> usize {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// From here on counts what comes (proc(5), `clear_refs`).
    pub fn forget_peak(&self) {
        std::fs::write(self.proc("clear_refs"), "5").unwrap();
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id().unwrap()))
    }
}

/// The address in a line of the log.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.split(|separator: char| !separator.is_ascii_digit() && !matches!(separator, '.' | ':'))
        .find_map(|word| word.parse().ok())
}
