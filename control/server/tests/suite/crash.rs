//! A server that is killed in the middle of its work, and started again.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{path::Path, process::Stdio};

use svidecar_api::{
    spire::api::{
        server::entry::v1::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
        types::{Entry, Selector, Spiffeid},
    },
    transport::uds,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};
use tonic::transport::Channel;

/// Starts the server and returns when it says that it is ready.
async fn start(directory: &Path) -> (Child, EntryClient<Channel>) {
    let socket = directory.join("private").join("api.sock");
    let mut server = Command::new(env!("CARGO_BIN_EXE_svidecar-server"))
        .args(["run", "-trustDomain", "demo.org", "-serverPort", "0", "-dataDir"])
        .arg(directory.join("data"))
        .arg("-socketPath")
        .arg(&socket)
        .env_clear()
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    loop {
        let line = log.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before it was ready"));
        if line.contains("svidecar-server is ready") {
            break;
        }
    }
    // Somebody has to read on, or the server would wait for it.
    tokio::task::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    (server, EntryClient::new(uds::connect(&socket).await.unwrap()))
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
