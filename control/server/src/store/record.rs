//! The values that every store keeps, and the rules for them. All times are Unix seconds, as on the wire; all TTLs are
//! seconds.
//!
//! It must never know how they are kept.

mod agent;
mod bundle;
mod columns;
mod entry;
mod eviction;
mod token;

use std::fmt;

use svidecar_authority::UnixTime;

pub use agent::{AgentRecord, JOIN_TOKEN, Member, Removed, Signed};
pub use bundle::{BundleChange, BundleRecord, DeleteMode, JwtAuthority, X509Authority};
pub use columns::{Columns, Value};
pub use entry::{Created, EntryMask, EntryRecord};
pub use eviction::{Barred, Eviction};
pub use token::{Consumed, TokenRecord, TokenUse};

/// A moment as it is stored and sent.
#[must_use]
pub fn unix_seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// One fact about a workload or a node, such as `unix:uid:1000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// The attestor's name; not empty, without `:`.
    pub kind: String,
    /// The rest; not empty, may contain `:`.
    pub value: String,
}

impl Selector {
    /// A selector from its two parts.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind: kind.into(), value: value.into() }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}
