#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod agents;
mod bundles;
mod durability;
mod entries;
mod events;
mod filters;
mod tokens;

use svidecar_id::{SpiffeId, TrustDomain};
use tempfile::TempDir;

use super::*;

/// A store in a directory of its own, which goes with it.
struct Fixture {
    store: Store,
    directory: TempDir,
}

async fn fixture() -> Fixture {
    let directory = TempDir::new().unwrap();
    let store = Store::open(&directory.path().join("datastore.sqlite3")).await.unwrap();
    Fixture { store, directory }
}

impl Fixture {
    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("datastore.sqlite3")
    }

    /// Adds an entry that must be new.
    async fn add(&self, entry: EntryRecord) -> EntryRecord {
        match self.store.create_entry(entry, NOW).await.unwrap() {
            Created::New(entry) => entry,
            Created::Similar(entry) => panic!("similar to {entry:?}"),
        }
    }
}

const NOW: i64 = 1_700_000_000;

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://demo.org{path}")).unwrap()
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn selectors(list: &[&str]) -> Vec<Selector> {
    list.iter()
        .map(|text| {
            let (kind, value) = text.split_once(':').unwrap();
            Selector::new(kind, value)
        })
        .collect()
}

fn entry(path: &str, list: &[&str]) -> EntryRecord {
    EntryRecord::new(id(path), id("/node"), selectors(list))
}

fn agent(path: &str) -> AgentRecord {
    AgentRecord {
        id: id(path),
        attestation_type: "join_token".to_owned(),
        serial: "1001".to_owned(),
        expires_at: NOW + 3600,
        new_serial: String::new(),
        new_expires_at: 0,
        can_reattest: false,
        agent_version: String::new(),
        selectors: selectors(&["spiffe_id:spiffe://demo.org/x"]),
    }
}

fn bundle(name: &str) -> BundleRecord {
    BundleRecord {
        x509_authorities: vec![X509Authority { der: vec![1, 2, 3], tainted: false }],
        sequence: 1,
        ..BundleRecord::empty(domain(name))
    }
}
