//! The built server, with a clock that is set under its feet and a disk that fails: both by a small library in C that is loaded
//! into it, so that nothing of the machine is touched.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command as Blocking, Stdio},
};

use svidecar_api::{
    spire::api::{
        server::entry::v1::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
        types::Entry,
    },
    transport::uds,
};
use svidecar_process::clock;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};
use tonic::transport::Channel;

use crate::support::entry;

struct Server {
    _child: Child,
    log: Lines<BufReader<ChildStderr>>,
    faults: File,
    entries: EntryClient<Channel>,
}

impl Server {
    async fn start(directory: &Path) -> Self {
        let (library, page) = (directory.join("faults.so"), directory.join("faults"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/faults.c");
        let built = Blocking::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(built.unwrap().success(), "a C compiler is needed, as it is to build the server");
        fs::write(&page, [0; 16]).unwrap();
        let socket = directory.join("private/api.sock");
        let mut child = Command::new(env!("CARGO_BIN_EXE_svidecar-server"))
            .args(["run", "-trustDomain", "demo.org", "-serverPort", "0", "-dataDir"])
            .arg(directory.join("data"))
            .arg("-socketPath")
            .arg(&socket)
            .env_clear()
            .env("LD_PRELOAD", &library)
            .env("FAULTS", &page)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        until(&mut log, "svidecar-server is ready").await;
        let entries = EntryClient::new(uds::connect(&socket).await.unwrap());
        Self { _child: child, log, faults: File::options().write(true).open(page).unwrap(), entries }
    }

    fn set_clock(&self, seconds: i64) {
        self.faults.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn fail_syncs(&self, fails: bool) {
        self.faults.write_all_at(&i64::from(fails).to_ne_bytes(), 8).unwrap();
    }

    async fn create(&mut self, entry: Entry) -> Result<(), String> {
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let answer = self.entries.batch_create_entry(request).await.map_err(|status| status.to_string())?;
        let status = answer.into_inner().results.remove(0).status.unwrap();
        if status.code == 0 { Ok(()) } else { Err(status.message) }
    }

    async fn listed(&mut self) -> usize {
        self.entries.list_entries(ListEntriesRequest::default()).await.unwrap().into_inner().entries.len()
    }
}

/// Reads the log up to a line that says this.
async fn until(log: &mut Lines<BufReader<ChildStderr>>, what: &str) {
    loop {
        let line = log.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before `{what}`"));
        if line.contains(what) {
            return;
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_a_day_ahead_for_some_seconds_keeps_everything() {
    let directory = TempDir::new().unwrap();
    let mut server = Server::start(directory.path()).await;
    let ends = i64::try_from(clock::unix().as_secs()).unwrap() + 3600;
    let short = Entry { expires_at: ends, ..entry("spiffe://demo.org/a", "spiffe://demo.org/node", 1) };
    server.create(short).await.unwrap();
    let keys = names(&directory.path().join("data/keys"));
    server.set_clock(26 * 3600);
    until(&mut server.log, "clock_doubtful").await;
    server.set_clock(0);
    until(&mut server.log, "signs again").await;
    let left = names(&directory.path().join("data/keys"));
    assert!(keys.iter().all(|key| left.contains(key)), "{keys:?} {left:?}");
    assert_eq!(server.listed().await, 1);
}

/// What does not reach the disk is refused, and is not there; what comes later is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_told_and_nothing_is_made_up() {
    let directory = TempDir::new().unwrap();
    let mut server = Server::start(directory.path()).await;
    let of = |name: &str| entry(&format!("spiffe://demo.org/{name}"), "spiffe://demo.org/node", 1);
    server.create(of("before")).await.unwrap();
    server.fail_syncs(true);
    let refused = server.create(of("lost")).await.unwrap_err();
    assert!(refused.contains("I/O error") || refused.contains("commit"), "{refused}");
    assert_eq!(server.listed().await, 1);
    server.fail_syncs(false);
    server.create(of("after")).await.unwrap();
    assert_eq!(server.listed().await, 2);
}
