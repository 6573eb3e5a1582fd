//! The built binary when nobody reads what it logs.

use std::process::{Command, Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use svidecar_process::testing::full_pipe;
use tokio::net::UnixStream;

use crate::harness::soon;

/// Its server is away, so that it has something to log from the first moment on.
#[tokio::test]
async fn a_log_that_nobody_reads_keeps_it_neither_from_listening_nor_from_ending() {
    let dir = tempfile::tempdir().unwrap();
    let (log, full) = full_pipe().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut agent = Command::new(env!("CARGO_BIN_EXE_svidecar-agent"))
        .args(["run", "-trustDomain", "demo.org", "-serverAddress", "127.0.0.1", "-serverPort", "1"])
        .args(["-joinToken", "11111111-2222-4333-8444-555555555555", "-insecureBootstrap"])
        .args(["-logLevel", "debug", "-dataDir"])
        .arg(path("data"))
        .arg("-socketPath")
        .arg(path("api.sock"))
        .arg("--admin-socket-path")
        .arg(path("private/admin.sock"))
        .env_clear()
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()
        .unwrap();
    soon(async {
        for socket in ["api.sock", "private/admin.sock"] {
            while UnixStream::connect(path(socket)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    kill(Pid::from_raw(i32::try_from(agent.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = soon(tokio::task::spawn_blocking(move || agent.wait().unwrap())).await.unwrap();
    assert!(status.success(), "{status}");
    drop(log);
}
