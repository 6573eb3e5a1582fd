//! A hostile user on the same host, and a rightful one beside it.
//!
//! As root, for there have to be users: elsewhere these tests say their names and do nothing.

mod crowd;
mod places;
mod raw;
mod recycled;
mod roles;

use std::{
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use socket2::{Domain, Socket, Type};
use svidecar_config::agent::AgentSettings;

use crate::{
    harness::{Bed, ids, my_uid, next, soon},
    hostile::roles::{first_word, role, said, then},
};

const MALLORY: u32 = 64_001;

/// Whether there can be users here.
fn root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: {test} needs root");
    }
    root
}

/// What only mallory may run as.
fn as_mallory(mut command: Command) -> Child {
    command.uid(MALLORY).gid(MALLORY).spawn().unwrap()
}

/// A bed whose socket others can reach.
fn open_bed() -> Bed {
    let bed = Bed::new(true);
    std::fs::set_permissions(bed.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    bed
}

/// A program of root's under another name and with this mode.
fn program(directory: &Path, name: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    std::fs::copy("/bin/sleep", &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

async fn everything_said(mut child: Child) -> Vec<String> {
    soon(tokio::task::spawn_blocking(move || {
        let said = said(&mut child);
        child.wait().unwrap();
        said
    }))
    .await
    .unwrap()
}

/// Settings with TCP, on a port that is ours as long as the socket lives.
fn on_tcp(bed: &Bed) -> (AgentSettings, String, Socket) {
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    reserved.set_reuse_address(true).unwrap();
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = reserved.local_addr().unwrap().as_socket().unwrap().to_string();
    let mut settings = bed.settings();
    settings.tcp_listen = address.parse().unwrap();
    (settings, address, reserved)
}

/// Mallory's child speaks on the connection of what has become a program of root's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_user_id_program_lends_its_identity_to_nobody_over_tcp() {
    if !root("a_set_user_id_program_lends_its_identity_to_nobody_over_tcp") {
        return;
    }
    let bed = open_bed();
    bed.world.create_entry("e1", "/root", &[&my_uid()]);
    let (settings, address, _reserved) = on_tcp(&bed);
    let agent = bed.start(settings);
    agent.ready().await;
    for (name, mode) in [("set-user-id", 0o4755), ("set-group-id", 0o2755), ("ordinary", 0o755)] {
        let becomes = program(bed.dir.path(), name, mode);
        let said = everything_said(as_mallory(then(role("lend", &address), &becomes))).await;
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(said[0].starts_with("refused could not resolve caller information"), "{name}: {said:?}");
        // The rightful one, over the same port.
        let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
        let mut client = crate::harness::Client::new(channel.connect().await.unwrap());
        let request = crate::harness::request(svidecar_api::workload::X509svidRequest {});
        let mut stream = soon(client.fetch_x509svid(request)).await.unwrap().into_inner();
        assert_eq!(ids(&next(&mut stream).await), ["spiffe://demo.org/root"]);
    }
    agent.stop().await;
}

/// A process of root's passes its connection on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_on_anothers_connection_is_refused_and_told_why() {
    let bed = open_bed();
    bed.world.create_entry("e1", "/root", &[&my_uid()]);
    let (settings, address, _reserved) = on_tcp(&bed);
    let socket = settings.socket_path.display().to_string();
    let agent = bed.start(settings);
    agent.ready().await;
    for at in [socket, address] {
        let said = everything_said(role("lend", &at).spawn().unwrap()).await;
        assert_eq!(said.len(), 1, "{at}: {said:?}");
        assert!(said[0].contains("each process has to connect itself"), "{at}: {said:?}");
    }
    next(&mut agent.fetch().await.unwrap()).await;
    agent.stop().await;
}

/// The heir has the dead one's connection, and would have got every further key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_process_whoever_inherits_it() {
    let bed = open_bed();
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let (settings, address, _reserved) = on_tcp(&bed);
    let socket = settings.socket_path.display().to_string();
    let agent = bed.start(settings);
    agent.ready().await;
    let mut rightful = agent.fetch().await.unwrap();
    next(&mut rightful).await;
    for (round, at) in [socket, address].into_iter().enumerate() {
        let mut child = role("bequeath", &at).spawn().unwrap();
        let mut child = soon(tokio::task::spawn_blocking(move || {
            assert_eq!(first_word(&mut child), "mine");
            child
        }))
        .await
        .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let number = round + 2;
        bed.world.create_entry(&format!("e{number}"), &format!("/{number}"), &[&my_uid()]);
        assert_eq!(next(&mut rightful).await.svids.len(), number);
        assert_eq!(everything_said(child).await, ["0 identities"], "{at}");
    }
    agent.stop().await;
}

/// Mallory's own program, mounted where the shop's is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_in_a_mount_namespace_of_ones_own_proves_nothing() {
    if !root("a_path_in_a_mount_namespace_of_ones_own_proves_nothing") {
        return;
    }
    let bed = open_bed();
    let this = std::env::current_exe().unwrap();
    let shop = bed.dir.path().join("shop");
    std::fs::copy(&this, &shop).unwrap();
    bed.world.create_entry("e1", "/shop", &[&format!("unix:path:{}", shop.display())]);
    let settings = bed.settings();
    let socket = settings.socket_path.display().to_string();
    let agent = bed.start(settings);
    agent.ready().await;
    // The shop itself, then the same program as another file in its place.
    assert_eq!(
        everything_said(as_mallory(roles::played_by(&shop, "fetch", &socket))).await,
        ["got spiffe://demo.org/shop"]
    );
    let fake = bed.dir.path().join("fake");
    std::fs::copy(&this, &fake).unwrap();
    let mut unshare = roles::in_a_mount_namespace(&fake, &shop, "fetch", &socket);
    unshare.uid(MALLORY).gid(MALLORY);
    let mut child = unshare.spawn().unwrap();
    let said = soon(tokio::task::spawn_blocking(move || said(&mut child))).await.unwrap();
    assert_eq!(said, ["refused no identity issued"]);
    agent.stop().await;
}
