//! The event log as values: which objects changed, in the order of the commits, and a snapshot to begin from.

use super::record::{AgentRecord, BundleRecord, EntryRecord};

/// What kind of object changed. The number is what the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A registration entry; the key is its ID.
    Entry = 1,
    /// An attested agent; the key is its SPIFFE ID.
    Agent = 2,
    /// A bundle; the key is its trust domain.
    Bundle = 3,
}

/// One object was created, changed or deleted; read it to know which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log.
    pub position: u64,
    /// The kind of object.
    pub kind: EventKind,
    /// Which one.
    pub key: String,
}

/// All that is served from memory, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The last event that is in it.
    pub position: u64,
    /// Every entry.
    pub entries: Vec<EntryRecord>,
    /// Every agent.
    pub agents: Vec<AgentRecord>,
    /// Every bundle.
    pub bundles: Vec<BundleRecord>,
}
