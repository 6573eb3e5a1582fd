//! A server that is killed in the middle of its work, and started again.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use svidecar_api::{
    spire::api::{
        server::entry::v1::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
        types::{Entry, Selector, Spiffeid},
    },
    transport::uds,
};
use svidecar_process::testing::full_pipe;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
};
use tonic::transport::Channel;

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svidecar-server"));
    command
        .args(["run", "-trustDomain", "demo.org", "-serverPort", "0", "-dataDir"])
        .arg(directory.join("data"))
        .arg("-socketPath")
        .arg(socket(directory))
        .env_clear()
        .kill_on_drop(true);
    command
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("private").join("api.sock")
}

/// Starts the server and returns when it says that it is ready.
async fn start(directory: &Path) -> (Child, EntryClient<Channel>) {
    let mut server = command(directory).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    loop {
        let line = log.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before it was ready"));
        if line.contains("svidecar-server is ready") {
            break;
        }
    }
    // Somebody has to read on, or the server would wait for it.
    tokio::task::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    (server, EntryClient::new(uds::connect(&socket(directory)).await.unwrap()))
}

fn entry(n: usize) -> Entry {
    let id = |path: String| Some(Spiffeid { trust_domain: "demo.org".to_owned(), path });
    Entry {
        spiffe_id: id(format!("/w/{n}")),
        parent_id: id("/node".to_owned()),
        selectors: vec![Selector { r#type: "unix".to_owned(), value: format!("uid:{n}") }],
        ..Entry::default()
    }
}

/// What was answered is kept; of what was not, all or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_answered_is_lost_by_a_kill() {
    const WRITERS: usize = 4;
    let directory = TempDir::new().unwrap();
    let (mut server, client) = start(directory.path()).await;
    let (count, mut answered) = watch::channel(0_usize);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (mut client, count) = (client.clone(), count.clone());
            tokio::task::spawn(async move {
                let mut ids = Vec::new();
                for n in (writer..).step_by(WRITERS) {
                    let request = BatchCreateEntryRequest { entries: vec![entry(n)], output_mask: None };
                    let Ok(response) = client.batch_create_entry(request).await else { break };
                    let created = response.into_inner().results.remove(0).entry.unwrap();
                    ids.push(created.id);
                    count.send_modify(|count| *count += 1);
                }
                ids
            })
        })
        .collect();
    answered.wait_for(|count| *count > 40).await.unwrap();
    // SIGKILL, while four calls are under way.
    server.kill().await.unwrap();
    let mut kept = Vec::new();
    for writer in writers {
        kept.extend(writer.await.unwrap());
    }

    let (_server, mut client) = start(directory.path()).await;
    let found = client.list_entries(ListEntriesRequest::default()).await.unwrap().into_inner().entries;
    for id in &kept {
        assert!(found.iter().any(|entry| entry.id == *id), "{id} was answered and is lost");
    }
    assert!(found.len() <= kept.len() + WRITERS, "{} of {} answered", found.len(), kept.len());
    assert!(found.iter().all(|entry| entry.selectors.len() == 1), "half an entry");
}

/// From the first line on, nobody reads what it logs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_keeps_it_neither_from_answering_nor_from_ending() {
    let directory = TempDir::new().unwrap();
    let (log, full) = full_pipe().unwrap();
    let mut server = command(directory.path()).stderr(full).spawn().unwrap();
    let answered = async {
        loop {
            let Ok(channel) = uds::connect(&socket(directory.path())).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let asked = EntryClient::new(channel).list_entries(ListEntriesRequest::default()).await;
            if asked.is_ok() {
                break;
            }
        }
        let pid = Pid::from_raw(i32::try_from(server.id().unwrap()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        server.wait().await.unwrap()
    };
    let status = tokio::time::timeout(Duration::from_secs(60), answered).await.unwrap();
    assert!(status.success(), "{status}");
    drop(log);
}

/// A stranger knocks until all that it will cause is written, and the next line says how much was not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_fills_no_log() {
    const KNOCKS: usize = 200;
    let directory = TempDir::new().unwrap();
    let mut server = command(directory.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    let address = loop {
        let line = log.next_line().await.unwrap().unwrap();
        if line.contains("svidecar-server is ready") {
            let port = line.split_once("address=").unwrap().1.split(' ').next().unwrap();
            let port = port.rsplit(':').next().unwrap();
            break format!("127.0.0.1:{port}");
        }
    };
    for _ in 0..KNOCKS {
        let mut stranger = TcpStream::connect(&address).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        // It is reported before it is closed.
        let _ = stranger.read_to_end(&mut Vec::new()).await;
    }
    kill(Pid::from_raw(i32::try_from(server.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    let mut failures = 0;
    while let Some(line) = log.next_line().await.unwrap() {
        failures += usize::from(line.contains("TLS handshake failed"));
    }
    assert!((10..KNOCKS / 2).contains(&failures), "{failures} lines");
    assert!(server.wait().await.unwrap().success());
}
