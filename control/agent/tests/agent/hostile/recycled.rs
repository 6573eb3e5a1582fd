//! A PID that means another process by the time the agent looks.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use svidecar_agent::{
    attest::Caller,
    endpoints::{Connection, Quota, bind_workload},
    error::AttestError,
};
use tokio::io::AsyncReadExt as _;
use tonic::transport::server::Connected as _;

use crate::{
    harness::{Bed, next, soon},
    hostile::{
        open_bed, program,
        roles::{in_a_namespace, role, said},
        root,
    },
};

/// Has the PID of a dead one.
struct Heir(Child);

impl Drop for Heir {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Lets a process connect and ask, end, and another one take its PID. Blocks: the agent, on the same thread, accepts nothing
/// meanwhile. Gives who has got the PID, and who has got the connection.
fn recycle(bed: &Bed, socket: &str) -> (Heir, Child) {
    let shop = program(bed.dir.path(), "shop", 0o755);
    for _ in 0..100 {
        let mut first = role("ask-and-die", socket).spawn().unwrap();
        let pid = first.id();
        // A child of its has our pipe, and the connection.
        first.wait().unwrap();
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let heir = Heir(Command::new(&shop).arg("100").stdout(Stdio::null()).spawn().unwrap());
        if heir.0.id() == pid {
            return (heir, first);
        }
    }
    panic!("no PID could be had again");
}

/// Plays the role in a PID namespace, where PIDs are ours to give.
fn succeeds(role: &str) {
    if root(role) {
        let output = in_a_namespace(role).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_recycled_pid_inherits_nothing() {
    succeeds("recycled");
}

#[test]
fn without_the_kernels_pidfd_a_recycled_pid_proves_nothing() {
    succeeds("recycled-by-number");
}

/// The whole agent, with the kernel's pidfd where it has it.
pub async fn inherits_nothing() {
    let bed = open_bed();
    let shop = bed.dir.path().join("shop");
    bed.world.create_entry("e1", "/shop", &[&format!("unix:path:{}", shop.display())]);
    bed.world.create_entry("e2", "/rightful", &["unix:uid:0"]);
    let agent = bed.agent().await;
    next(&mut agent.fetch().await.unwrap()).await;
    let socket = bed.settings().socket_path.display().to_string();
    let (heir, mut thief) = recycle(&bed, &socket);
    let stolen = soon(tokio::task::spawn_blocking(move || said(&mut thief))).await.unwrap();
    assert_eq!(stolen, ["0 identities"]);
    drop(heir);
    next(&mut agent.fetch().await.unwrap()).await;
    agent.stop().await;
}

/// As on kernels before 6.5: what is pinned is the heir, which has not spoken.
pub async fn proves_nothing_by_number() {
    let bed = open_bed();
    let path = bed.dir.path().join("early/api.sock");
    let listener = bind_workload(&path).await.unwrap();
    let (heir, mut thief) = recycle(&bed, &path.display().to_string());
    let pid = i32::try_from(heir.0.id()).unwrap();
    // Those who did not get the PID back have connected too.
    let stream = loop {
        let stream = listener.accept().await;
        if stream.peer_cred().unwrap().pid() == Some(pid) {
            break stream;
        }
    };

    let by_kernel = Caller::of_unix(&stream);
    assert!(matches!(by_kernel, Err(AttestError::Gone { .. })), "{:?}", by_kernel.err());

    let by_number = Caller::of_unix_by(&stream, None).unwrap();
    assert_eq!(by_number.pid(), pid);
    by_number.still_the_same().unwrap();
    let mut connection = Connection::of_pinned(stream, Ok(by_number), &Quota::new(1024));
    let caller = connection.connect_info().caller().unwrap();
    let mut asked = [0; 16 * 1024];
    assert_ne!(connection.read(&mut asked).await.unwrap(), 0);
    tokio::time::pause();
    assert!(matches!(caller.speaks().await, Err(AttestError::Silent { .. })));
    assert!(tokio::time::timeout(Duration::from_secs(1), caller.exited()).await.is_err());
    drop((heir, connection));
    assert_eq!(tokio::task::spawn_blocking(move || said(&mut thief)).await.unwrap(), ["0 identities"]);
}
