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
    played_by(&std::env::current_exe().unwrap(), name, at)
}

/// A copy of this program in a role.
pub fn played_by(program: &Path, name: &str, at: &str) -> Command {
    let mut command = Command::new(program);
    command.args(PLAY).env(ROLE, name).env(AT, at).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A copy of this program in a role, mounted at `over` in user and mount namespaces of its own.
pub fn in_a_mount_namespace(program: &Path, over: &Path, name: &str, at: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "--", "sh", "-c"])
        .arg(r#"mount --bind "$0" "$1" && exec "$@""#)
        .args([program, over])
        .args(PLAY)
        .env(ROLE, name)
        .env(AT, at)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
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
        "speak" => speak(std::io::stdin().as_fd().try_clone_to_owned().unwrap()),
        "fetch" => speak(connect(&at)),
        "ask-and-die" => ask_and_die(&at),
        "bequeath" => bequeath(&at),
        "listen" => listen(),
        "crowd" => crowd(&at),
        "large-messages" => large_messages(&at),
        "many-messages" => many_messages(&at),
        "serve" => serve(&at),
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

/// Fetches over the connection, and says what it got.
fn speak(socket: OwnedFd) {
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
    while !raw::has_message(&answer) {
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

/// Opens many connections, says nothing on them, and waits until nearly all are closed.
fn crowd(at: &str) {
    let (many, left) = (700, 256);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(1024), maximum: Some(1024) },
    )
    .unwrap();
    let mut open: Vec<_> = (0..many).map(|_| connect(at)).collect();
    say("begun");
    while open.len() > left {
        let mut fds: Vec<_> = open.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        rustix::event::poll(&mut fds, None).unwrap();
        let mut closed: Vec<_> = fds.iter().map(|fd| fd.revents().contains(PollFlags::HUP)).collect();
        drop(fds);
        let mut buffer = [0; 1024];
        // What the agent says first is of no interest.
        for (socket, closed) in open.iter().zip(&mut closed) {
            let readable = rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0);
            if readable && !*closed {
                rustix::io::read(socket, &mut buffer).ok();
            }
        }
        let mut closed = closed.into_iter();
        open.retain(|_| !closed.next().unwrap());
    }
    say("those over 256 were closed");
}

/// Begins so many calls on each of so many connections, with messages of this length of which nothing comes.
fn begin_messages(at: &str, connections: usize, calls: u32, length: u32) -> Vec<OwnedFd> {
    let begin = |_| {
        let socket = connect(at);
        rustix::io::write(&socket, &raw::preface()).unwrap();
        wait_for_bytes(&socket);
        rustix::io::write(&socket, raw::SETTINGS_ACK).unwrap();
        for call in 0..calls {
            rustix::io::write(&socket, &raw::unfinished("FetchX509SVID", 2 * call + 1, length)).unwrap();
        }
        socket
    };
    let begun = (0..connections).map(begin).collect();
    say("begun");
    begun
}

/// Waits until so many of the calls on the connections were ended by the agent.
fn wait_for_ends(open: &[OwnedFd], enough: usize) -> usize {
    let mut heard = vec![Vec::new(); open.len()];
    loop {
        let ended = heard.iter().map(|heard| raw::ended_calls(heard)).sum();
        if ended >= enough {
            return ended;
        }
        let mut fds: Vec<_> = open.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        rustix::event::poll(&mut fds, None).unwrap();
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (number, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            let mut buffer = [0; 16 * 1024];
            let read = rustix::io::read(&open[number], &mut buffer).unwrap();
            assert_ne!(read, 0, "the agent closed a connection");
            heard[number].extend(&buffer[..read]);
        }
    }
}

/// 64 messages of 4 MiB.
fn large_messages(at: &str) {
    let open = begin_messages(at, 8, 8, 4 << 20);
    say(&format!("{} of 64 were refused", wait_for_ends(&open, 64)));
}

/// 400 messages of as much as is allowed. One user may have 8/9 of 256 places.
fn many_messages(at: &str) {
    let open = begin_messages(at, 4, 100, 60 << 10);
    wait_for_ends(&open, 400 - 228);
    say("the others were refused");
}

/// Serves two connections on this path, and says how much was said on them.
fn serve(at: &str) {
    let listener = std::os::unix::net::UnixListener::bind(at).unwrap();
    std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    say("listening");
    let mut heard = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().unwrap();
        // Whether it ends in order does not matter.
        stream.read_to_end(&mut heard).ok();
    }
    say(&format!("heard {} bytes", heard.len()));
}
