#![allow(clippy::unwrap_used)]

use std::{
    os::unix::net::UnixListener as StdListener,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::io::AsyncReadExt as _;

use super::*;

#[tokio::test]
async fn the_mode_is_as_asked_and_the_file_goes_with_the_listener() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("private/api.sock");
    let listener = Listener::bind(&path, 0o600, 0o700).await.unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    drop(StdListener::bind(&path).unwrap());
    let live = Listener::bind(&path, 0o600, 0o700).await.unwrap();
    assert!(matches!(Listener::bind(&path, 0o600, 0o700).await, Err(BindError::InUse { .. })));
    drop(live);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::bind(&path, 0o600, 0o700).await, Err(BindError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_successor_keeps_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let first = Listener::bind(&path, 0o600, 0o700).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Listener::bind(&path, 0o600, 0o700).await.unwrap();
    drop(first);
    assert!(second.path().exists());
}

#[tokio::test]
async fn the_peer_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = Listener::bind(&path, 0o600, 0o700).await.unwrap();
    let (_client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
    let credentials = server.peer_cred().unwrap();
    assert_eq!(credentials.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(credentials.pid(), Some(std::process::id().cast_signed()));
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_closed_and_the_next_one_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let listener = Listener::bind(&path, 0o600, 0o700).await.unwrap();
    let listener = listener.keeping(|_| SEEN.fetch_add(1, Ordering::Relaxed) > 0);
    let mut refused = UnixStream::connect(&path).await.unwrap();
    let (kept, _) = tokio::join!(UnixStream::connect(&path), listener.accept());
    assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(kept.unwrap().try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn directories_of_others_are_refused() {
    let path = Path::new("/d");
    assert!(check_directory(path, 1000, 0o755, 1000).is_ok());
    assert!(check_directory(path, 0, 0o1777, 1000).is_ok());
    assert!(matches!(
        check_directory(path, 1001, 0o755, 1000),
        Err(BindError::ForeignDirectory { owner: 1001, .. })
    ));
    assert!(matches!(
        check_directory(path, 1000, 0o777, 1000),
        Err(BindError::OpenDirectory { mode: 0o777, .. })
    ));
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    assert_eq!(connect(&path).await.unwrap_err().code(), "socket_missing");
    drop(StdListener::bind(&path).unwrap());
    assert_eq!(connect(&path).await.unwrap_err().code(), "socket_refused");
}

/// Who serves the socket may come later than who looks for it; and while it is away, another one is not taken for it.
#[tokio::test]
async fn a_socket_that_nobody_named_is_looked_for_until_one_answers() {
    let dir = tempfile::tempdir().unwrap();
    let [own, systems, spires] = ["own", "systems", "spires"].map(|name| dir.path().join(name));
    let usual = || Usual::new(vec![own.clone(), systems.clone()], spires.clone());
    let early = usual();
    let missing = connect_to_usual(&early).await.err().unwrap();
    assert!(matches!(missing, ConnectError::Missing { path } if path == systems));
    // A file is no socket.
    std::fs::write(&own, "").unwrap();
    let other = Listener::bind(&spires, 0o600, 0o700).await.unwrap();
    assert_eq!(early.path(), spires);
    let ours = Listener::bind(&systems, 0o600, 0o700).await.unwrap();
    assert_eq!(early.path(), systems);
    let clone = early.clone();
    let (channel, _server) = tokio::join!(connect_to_usual(&clone), ours.accept());
    channel.unwrap();
    drop(ours);
    assert_eq!((early.path(), usual().path()), (&*systems, &*spires));
    let away = connect_to_usual(&early).await.err().unwrap();
    assert!(matches!(away, ConnectError::Missing { path } if path == systems));
    drop(other);
}
