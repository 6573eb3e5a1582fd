//! A store that is empty at first, and values to put into it.

use std::{any::Any, future::Future, pin::Pin, sync::Arc};

use svidecar_id::{SpiffeId, TrustDomain};

use crate::store::{
    AgentRecord, BundleRecord, Created, EntryFilter, EntryMask, EntryRecord, Eviction, Selector, Store,
    StoreError, X509Authority,
};

/// A store that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send>>;

/// Opens the store that is tested, each time where it left off.
pub type Open = Box<dyn Fn() -> Opening + Send + Sync>;

/// A store to test, and how to open it again.
pub struct Fixture {
    pub store: Arc<dyn Store>,
    open: Open,
    /// What it lives in, and what ends with it.
    _home: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    pub async fn new(home: impl Any + Send + Sync, open: Open) -> Self {
        Self { store: open().await, open, _home: Box::new(home) }
    }

    /// Closes the store and opens it again.
    pub async fn reopen(self) -> Self {
        let Self { store, open, _home } = self;
        drop(store);
        Self { store: open().await, open, _home }
    }

    pub async fn create(&self, entry: EntryRecord, now: i64) -> Result<Created, StoreError> {
        self.store.create_entries(vec![entry], now).await.unwrap().remove(0)
    }

    /// Adds an entry that must be new.
    pub async fn add(&self, entry: EntryRecord) -> EntryRecord {
        match self.create(entry, NOW).await.unwrap() {
            Created::New(entry) => entry,
            Created::Similar(entry) => panic!("similar to {entry:?}"),
        }
    }

    pub async fn update(&self, changes: EntryRecord, mask: EntryMask) -> Result<EntryRecord, StoreError> {
        self.store.update_entries(vec![changes], mask).await.unwrap().remove(0)
    }

    pub async fn delete(&self, id: &str) -> Result<EntryRecord, StoreError> {
        self.store.delete_entries(vec![id.to_owned()]).await.unwrap().remove(0)
    }

    pub async fn entry_count(&self) -> u64 {
        self.store.count_entries(EntryFilter::default()).await.unwrap()
    }
}

pub const NOW: i64 = 1_700_000_000;

pub fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://demo.org{path}")).unwrap()
}

pub fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub fn selectors(list: &[&str]) -> Vec<Selector> {
    list.iter()
        .map(|text| {
            let (kind, value) = text.split_once(':').unwrap();
            Selector::new(kind, value)
        })
        .collect()
}

pub fn entry(path: &str, list: &[&str]) -> EntryRecord {
    EntryRecord::new(id(path), id("/node"), selectors(list))
}

pub fn agent(path: &str) -> AgentRecord {
    AgentRecord {
        id: id(path),
        attestation_type: "join_token".to_owned(),
        serial: "1001".to_owned(),
        expires_at: NOW + 3600,
        new_serial: String::new(),
        new_expires_at: 0,
        key_sha256: "k1".to_owned(),
        new_key_sha256: String::new(),
        generation: 1,
        issued_at: NOW,
        member_until: NOW + 7200,
        can_reattest: false,
        agent_version: String::new(),
        selectors: selectors(&["spiffe_id:spiffe://demo.org/x"]),
    }
}

pub fn eviction() -> Eviction {
    Eviction { by: "local user 0".to_owned(), at: NOW + 1 }
}

pub fn bundle(name: &str) -> BundleRecord {
    BundleRecord {
        x509_authorities: vec![X509Authority { der: vec![1, 2, 3], tainted: false }],
        sequence: 1,
        ..BundleRecord::empty(domain(name))
    }
}
