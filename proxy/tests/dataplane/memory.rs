//! The built binary in a cgroup that lets it have little memory, while one peer makes it hold much.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use http::StatusCode;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    process::Process,
    support::{
        agent::{Agent, Says},
        app,
        authority::Authority,
        client, soon,
    },
};

/// What the process may have at first, in bytes.
const LIMIT: usize = 24 << 20;

/// More connections than fit into that.
const CONNECTIONS: usize = 1000;

/// A cgroup of our own, with a limit.
struct Cgroup {
    directory: PathBuf,
    files: &'static Files,
}

/// What its files are called.
struct Files {
    limit: &'static str,
    used: &'static str,
}

const V2: Files = Files { limit: "memory.max", used: "memory.current" };
const V1: Files = Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes" };

impl Cgroup {
    /// Beside our own or below it, whichever the system lets us have. None where it lets us have none.
    fn new() -> Option<Self> {
        let list = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mut found = list.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, own) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            let (root, files) = match controllers {
                "" => ("/sys/fs/cgroup", &V2),
                "memory" => ("/sys/fs/cgroup/memory", &V1),
                _ => return None,
            };
            let mut places = Path::new(own).ancestors();
            places.find_map(|place| Self::at(&Path::new(root).join(place), files))
        });
        found.next()
    }

    fn at(above: &Path, files: &'static Files) -> Option<Self> {
        let directory = above.join(format!("svidecar-memory-{}", std::process::id()));
        fs::create_dir(&directory).ok()?;
        let group = Self { directory, files };
        fs::write(group.directory.join(files.limit), LIMIT.to_string()).ok()?;
        Some(group)
    }

    /// Lowers the limit, so that of the new one so many percent are left.
    fn leaves(&self, percent: u64) {
        let used = fs::read_to_string(self.directory.join(self.files.used)).unwrap();
        let used: u64 = used.trim().parse().unwrap();
        fs::write(self.directory.join(self.files.limit), (used * 100 / (100 - percent)).to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // After a failure the process may not have ended yet; then it stays, empty.
        let _ = fs::remove_dir(&self.directory);
    }
}

fn value(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

async fn open_connections(admin: SocketAddr) -> u64 {
    let metrics = client::plain_get(admin, "/metrics").await.body;
    value(&metrics, "svidecar_open_connections{direction=\"inbound\",listener=\"orders\"}")
}

/// One peer opens connections and keeps the beginning of a large head on each. The process would be killed; instead the peer gets no
/// more, and is cut off where that is not enough. The other one notices nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_most_memory_is_cut_off_and_nobody_else_notices() {
    let Some(cgroup) = Cgroup::new() else {
        println!(
            "skipped: whoever_holds_most_memory_is_cut_off_and_nobody_else_notices can make no cgroup with a limit"
        );
        return;
    };
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let app = app::http(async |_| http::Response::new(app::text("done"))).await;
    let listeners = format!(
        "access_log: {{format: off}}\ninbound: [{{name: orders, listen: \"127.0.0.1:0\", forward: \"{app}\", policy: policy.yaml}}]\n"
    );
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.directory.display());
    let mut process = Process::start_under(&script, &agent, &listeners, &[]);
    let orders = process.address("Listening", "address").await;
    let admin = process.address("svidecar is up", "admin").await;
    process.says("The proxy is ready").await;

    let stream = client::mtls(orders, &authority, authority.identity("/shop"), &[b"http/1.1"]).await.unwrap();
    let mut victim = client::http1(stream).await;
    let mut held = Vec::new();
    let mut rest = 100;
    for _ in 0..CONNECTIONS {
        if let Ok(mut actor) =
            client::mtls(orders, &authority, authority.identity("/other"), &[b"http/1.1"]).await
        {
            // Whoever is refused finds its connection closed at any moment.
            let mut answer = [0; 12];
            let _ = actor.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n").await;
            let _ = actor.read_exact(&mut answer).await;
            let _ = actor.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\nx-long: ").await;
            let _ = actor.write_all(&[b'x'; 56 << 10]).await;
            let _ = actor.flush().await;
            held.push(actor);
        }
        assert_eq!(client::ask(&mut victim, client::get("/")).await.status, StatusCode::OK);
        let metrics = client::plain_get(admin, "/metrics").await.body;
        rest -= usize::from(rest < 100 || value(&metrics, "svidecar_memory_short") == 1);
        if rest == 0 {
            break;
        }
    }
    assert_eq!(rest, 0, "memory never became short");
    process.says("Memory is short").await;
    assert!(client::plain_get(admin, "/ready").await.body.contains("memory is short"));

    // What was given stays given, until there is less than that.
    let before = open_connections(admin).await;
    cgroup.leaves(10);
    process.says("whoever holds most is cut off").await;
    soon("half of the connections to be cut off", async {
        while open_connections(admin).await * 10 > before * 6 {}
    })
    .await;
    assert_eq!(client::ask(&mut victim, client::get("/")).await.status, StatusCode::OK);
    let next = client::mtls(orders, &authority, authority.identity("/new"), &[b"http/1.1"]).await.unwrap();
    assert_eq!(
        client::ask(&mut client::http1(next).await, client::get("/")).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(client::plain_get(admin, "/ready").await.status, StatusCode::OK);
    drop((held, victim));
    process.signal(Signal::SIGTERM);
    process.exit_code().await;
}
