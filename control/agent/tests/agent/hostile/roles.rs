//! What other processes do: this program again, in a role.

use std::{
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags};
use svidecar_api::workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};

use crate::{
    harness::request,
    hostile::{raw, recycled},
};

/// The variable with the role, and those with what it needs.
const ROLE: &str = "SVIDECAR_TEST_ROLE";
const AT: &str = "SVIDECAR_TEST_AT";
const THEN: &str = "SVIDECAR_TEST_THEN";

/// Before what a role says; the rest of its output is the test harness's.
const SAYS: &str = "ROLE:";

/// The test that plays the role.
const PLAY: [&str; 4] = ["--exact", "hostile::roles::play", "--nocapture", "--test-threads=1"];

/// This program in the role of that name. Its output is piped, and ends with the last of its children.
pub fn role(name: &str, at: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(PLAY).env(ROLE, name).env(AT, at).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// With this program to become afterwards.
pub fn then(mut command: Command, program: &Path) -> Command {
    command.env(THEN, program);
    command
}

/// This program in the role of that name, in a PID namespace of its own.
pub fn in_a_namespace(name: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(PLAY)
        .env(ROLE, name)
        .env(AT, "");
    command
}

/// What the role and its children said, when all have ended.
pub fn said(child: &mut Child) -> Vec<String> {
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    let lines = output.lines().filter_map(|line| Some(line.split_once(SAYS)?.1.to_owned()));
    lines.collect()
}

/// The first thing that it says, while it goes on.
pub fn first_word(child: &mut Child) -> String {
    let output = child.stdout.as_mut().unwrap();
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        line.extend(byte);
        if byte == *b"\n" {
            let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
            if let Some((_, said)) = text.split_once(SAYS) {
                return said.trim().to_owned();
            }
        }
    }
}

fn say(text: &str) {
    println!("\n{SAYS}{text}");
    std::io::stdout().flush().unwrap();
}

/// No test, but what tests start.
#[test]
fn play() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let given = |name| std::env::var_os(name).unwrap().into_string().unwrap();
    let at = given(AT);
    match given(ROLE).as_str() {
        "lend" => lend(&at),
        "speak" => speak(),
        "ask-and-die" => ask_and_die(&at),
        "bequeath" => bequeath(&at),
        "listen" => listen(),
        "recycled" => alone(recycled::inherits_nothing()),
        "recycled-by-number" => alone(recycled::proves_nothing_by_number()),
        other => panic!("there is no role {other}"),
    }
}

/// On one thread, so that nothing is accepted while it is blocked.
fn alone(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// To a path, or to an address.
fn connect(at: &str) -> OwnedFd {
    if at.starts_with('/') {
        std::os::unix::net::UnixStream::connect(at).unwrap().into()
    } else {
        std::net::TcpStream::connect(at).unwrap().into()
    }
}

fn wait_for_bytes(socket: &OwnedFd) {
    rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
}

fn child(name: &str, socket: &OwnedFd) -> Child {
    let mut command = role(name, "");
    command.stdin(socket.try_clone().unwrap()).stdout(Stdio::inherit()).spawn().unwrap()
}

/// Connects, waits until the agent has looked who connected, and lets a child speak; itself it becomes another program.
fn lend(at: &str) {
    let socket = connect(at);
    // The agent's settings come after that.
    wait_for_bytes(&socket);
    let mut speaker = child("speak", &socket);
    match std::env::var_os(THEN) {
        Some(program) => panic!("{}", Command::new(program).arg("5").stdin(socket).exec()),
        None => drop(speaker.wait().unwrap()),
    }
}

/// Fetches over the connection that is its standard input, and says what it got.
fn speak() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let outcome = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut socket = Some(socket);
        let connector = tower::service_fn(move |_| {
            let socket = std::os::unix::net::UnixStream::from(socket.take().unwrap());
            async move {
                socket.set_nonblocking(true)?;
                tokio::net::UnixStream::from_std(socket).map(TokioIo::new)
            }
        });
        let channel = tonic::transport::Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .unwrap();
        let mut client = SpiffeWorkloadApiClient::new(channel);
        let mut stream = client.fetch_x509svid(request(X509svidRequest {})).await?.into_inner();
        stream.message().await
    });
    match outcome {
        Ok(message) => say(&format!("got {}", message.unwrap().svids[0].spiffe_id)),
        Err(status) => say(&format!("refused {}", status.message())),
    }
}

/// Connects and asks, and is gone at once; a child has the connection, and listens.
#[expect(clippy::zombie_processes, reason = "the child outlives us")]
fn ask_and_die(at: &str) {
    let socket = connect(at);
    rustix::io::write(&socket, &raw::call("FetchX509SVID")).unwrap();
    child("listen", &socket);
}

/// Fetches an SVID as its own, says so, and is gone when it is told; a child has the connection, and listens.
#[expect(clippy::zombie_processes, reason = "the child outlives us")]
fn bequeath(at: &str) {
    let socket = connect(at);
    rustix::io::write(&socket, &raw::call("FetchX509SVID")).unwrap();
    wait_for_bytes(&socket);
    rustix::io::write(&socket, raw::SETTINGS_ACK).unwrap();
    let mut answer = Vec::new();
    while raw::ids(&answer) == 0 {
        wait_for_bytes(&socket);
        let mut buffer = [0; 16 * 1024];
        let read = rustix::io::read(&socket, &mut buffer).unwrap();
        assert_ne!(read, 0, "the agent ended it");
        answer.extend(&buffer[..read]);
    }
    child("listen", &socket);
    say("mine");
    // Waits to be killed.
    std::thread::park();
}

/// Reads the connection that is its standard input to the end of the call, and says how many identities were in it.
fn listen() {
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut socket = std::io::stdin();
    while !raw::call_ended(&answer) {
        match socket.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend(&buffer[..read]),
        }
    }
    say(&format!("{} identities", raw::ids(&answer)));
}
