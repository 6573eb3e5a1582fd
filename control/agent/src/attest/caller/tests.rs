use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

use super::*;

/// Of a process that has no name any more: it ended and was not yet buried.
#[tokio::test]
async fn a_process_that_exited_is_not_attested() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let caller = Caller::pin(i32::try_from(child.id()).unwrap()).unwrap();
    // It may not have become `cat` when it was pinned, and then is another program.
    if !matches!(caller.still_the_same(), Err(AttestError::ProgramChanged { .. })) {
        caller.still_the_same().unwrap();
    }

    drop(child.stdin.take());
    // /proc/PID is still there and only the pidfd knows.
    caller.exited().await;
    assert!(matches!(caller.still_the_same(), Err(AttestError::Gone { .. })));
    child.wait().unwrap();
    assert!(matches!(caller.still_the_same(), Err(AttestError::Gone { .. })));
}

#[tokio::test]
async fn a_process_that_runs_another_program_is_not_the_one_that_was_pinned() {
    let mut child = Command::new("sh")
        .args(["-c", "read line; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let caller = Caller::pin(pid).unwrap();
    writeln!(input, "go").unwrap();
    writeln!(input, "it is cat who answers").unwrap();
    let mut answer = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
    assert!(matches!(caller.still_the_same(), Err(AttestError::ProgramChanged { .. })));
    drop(input);
    child.wait().unwrap();
}

#[tokio::test]
async fn other_credentials_than_the_connections_are_refused() {
    let mut caller = Caller::pin(i32::try_from(std::process::id()).unwrap()).unwrap();
    caller.still_the_same().unwrap();
    caller.ids = (4_000_000, 4_000_000);
    assert!(matches!(caller.status(), Err(AttestError::CredentialsChanged { .. })));
    assert!(matches!(caller.still_the_same(), Err(AttestError::CredentialsChanged { .. })));
}

#[tokio::test]
async fn pid_zero_means_another_pid_namespace() {
    assert!(matches!(Caller::pin(0), Err(AttestError::OtherPidNamespace)));
}

#[tokio::test]
async fn a_unix_sockets_other_end_is_pinned_with_and_without_the_kernels_pidfd() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let me = i32::try_from(std::process::id()).unwrap();
    for caller in [Caller::of_unix(&ours).unwrap(), Caller::of_unix_by(&ours, None).unwrap()] {
        assert_eq!(caller.pid(), me);
        assert_eq!(caller.uid(), rustix::process::geteuid().as_raw());
        caller.still_the_same().unwrap();
    }
}
