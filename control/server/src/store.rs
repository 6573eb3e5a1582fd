//! What the trust domain remembers: entries, agents, join tokens, bundles, the CA journal, the last time that was
//! believed, and the log of the changes.
//!
//! Owns the values that are kept, the rules for them, and what every store promises; [`SqliteStore`] keeps them in one file.
//! A store must never check who asks (services do), never read a clock (time is an argument), and never hold a private
//! key or the secret of a token. What all of them promise, and the suite in `contract` asks of each:
//!
//! - A call that changes something is one transaction: the change, its revision and its events are kept together, or not
//!   at all. When it has been answered, it outlasts a crash.
//! - A call that reads sees one moment, and all that was answered before it.
//! - The order of the events is the order of the commits: whoever has read the log up to a position, and reads on from
//!   there, misses nothing. Every event is one object, and what it is about can be read by the time that the event can.
//!
//! All of that holds among several servers too, where they share a database. No part of it may be known to one process
//! alone, but for [`EventLog::changes`].

mod error;
mod filter;
mod record;
mod snapshot;
mod sqlite;

#[cfg(test)]
mod contract;

use async_trait::async_trait;
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::clock::Seen;
use tokio::sync::watch;

pub use error::StoreError;
pub use filter::{AgentFilter, EntryFilter, Match, Page, PageRequest};
pub use record::{
    AgentRecord, Barred, BundleChange, BundleRecord, Consumed, Created, DeleteMode, EntryMask, EntryRecord,
    Eviction, JOIN_TOKEN, JwtAuthority, Member, Removed, Selector, Signed, TokenRecord, TokenUse,
    X509Authority, unix_seconds,
};
pub use snapshot::{Event, EventKind, Snapshot};
pub use sqlite::SqliteStore;

/// A store, whatever it keeps its things in.
pub trait Store:
    EntryStore + AgentStore + TokenStore + BundleStore + JournalStore + BackupStore + ClockStore + EventLog
{
}

impl<
    S: EntryStore + AgentStore + TokenStore + BundleStore + JournalStore + BackupStore + ClockStore + EventLog,
> Store for S
{
}

/// Registration entries.
#[async_trait]
pub trait EntryStore: Send + Sync {
    /// Stores new entries, each on its own: one that fails does not keep the others out. `now` becomes their
    /// creation time (Unix seconds).
    ///
    /// # Errors
    /// Per entry: [`StoreError::Invalid`], [`StoreError::UnknownFederatedBundle`]; for all: the commit failed.
    async fn create_entries(
        &self,
        entries: Vec<EntryRecord>,
        now: i64,
    ) -> Result<Vec<Result<Created, StoreError>>, StoreError>;

    /// Sets the fields that `mask` names of the entries with these IDs, raises their revisions, and returns them whole. Each
    /// on its own, as with [`Self::create_entries`].
    ///
    /// # Errors
    /// Per entry: [`StoreError::NotFound`], [`StoreError::Invalid`], [`StoreError::UnknownFederatedBundle`]; for all: the
    /// commit failed.
    async fn update_entries(
        &self,
        changes: Vec<EntryRecord>,
        mask: EntryMask,
    ) -> Result<Vec<Result<EntryRecord, StoreError>>, StoreError>;

    /// Deletes entries, each on its own, and returns what they were.
    ///
    /// # Errors
    /// Per entry: [`StoreError::NotFound`]; for all: the commit failed.
    async fn delete_entries(
        &self,
        ids: Vec<String>,
    ) -> Result<Vec<Result<EntryRecord, StoreError>>, StoreError>;

    /// Deletes the entries whose end is before `now` (Unix seconds) and returns them.
    ///
    /// # Errors
    /// The commit failed.
    async fn prune_entries(&self, now: i64) -> Result<Vec<EntryRecord>, StoreError>;

    /// The entry with that ID.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn get_entry(&self, id: &str) -> Result<Option<EntryRecord>, StoreError>;

    /// Those of the entries that exist, in the order asked.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn get_entries(&self, ids: Vec<String>) -> Result<Vec<EntryRecord>, StoreError>;

    /// One page of the entries that pass the filter, in the order of their creation.
    ///
    /// # Errors
    /// [`StoreError::BadPageToken`], or the database cannot be read.
    async fn list_entries(
        &self,
        filter: EntryFilter,
        page: PageRequest,
    ) -> Result<Page<EntryRecord>, StoreError>;

    /// How many entries pass the filter.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn count_entries(&self, filter: EntryFilter) -> Result<u64, StoreError>;
}

/// Attested agents.
#[async_trait]
pub trait AgentStore: Send + Sync {
    /// Stores an agent that attested, new or again, with its selectors. The join token that it attested by, with its
    /// key, has to be there still, and the key not barred from it: once a token is deleted, nobody becomes an agent by it any
    /// more, and who was evicted meanwhile does not come back.
    ///
    /// # Errors
    /// [`StoreError::AgentBanned`]: attesting does not lift a ban. [`StoreError::TokenUnknown`],
    /// [`StoreError::TokenEvicted`].
    async fn put_agent(&self, agent: AgentRecord, token: Option<(&str, &str)>) -> Result<(), StoreError>;

    /// Remembers the SVID of a renewal beside the one in use: the agent may never see the answer, and then goes on
    /// with the old one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::AgentBanned`].
    async fn renew_agent(&self, id: &SpiffeId, signed: Signed) -> Result<AgentRecord, StoreError>;

    /// Renews an agent for whoever has proven that a key is its own, as [`AgentRecord::come_back`] says. One that is not known,
    /// and was not evicted since that key was signed for, is stored: the store was restored from before it attested.
    /// The token that it is named after is bound to it, if nobody has used it.
    ///
    /// # Errors
    /// [`StoreError::AgentBanned`], [`StoreError::AgentEvicted`], [`StoreError::AgentSuperseded`].
    async fn bring_agent_back(&self, member: Member, signed: Signed) -> Result<AgentRecord, StoreError>;

    /// The agent was seen with the renewed SVID: from now on it is the one in use. Any other serial changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn activate_agent_serial(&self, id: &SpiffeId, seen: String) -> Result<AgentRecord, StoreError>;

    /// Remembers the version that an agent reports.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn set_agent_version(&self, id: &SpiffeId, version: String) -> Result<AgentRecord, StoreError>;

    /// Bans an agent: none of its SVIDs is good any more, and it cannot attest until it is deleted. Everybody is barred from
    /// the join token that it came by, and the entries below it are deleted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn ban_agent(&self, id: &SpiffeId, why: Eviction) -> Result<Removed, StoreError>;

    /// Deletes an agent, for good: it is barred from the join token that it came by, and does not come back by a key that we
    /// signed for, for as long as one is good. From the token everybody is barred, unless that is reusable and the agent was not
    /// banned; then it is the key that used it last. Where everybody is, or the token is gone, nobody can be that agent again,
    /// and the entries below it are deleted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn delete_agent(&self, id: &SpiffeId, why: Eviction) -> Result<Removed, StoreError>;

    /// Forgets the evictions of whose agents no token is left, nor anything that lets them come back, since before
    /// `ended_before` (Unix seconds) and returns how many.
    ///
    /// # Errors
    /// The commit failed.
    async fn prune_evictions(&self, ended_before: i64) -> Result<u64, StoreError>;

    /// The agent with that SPIFFE ID.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn get_agent(&self, id: &SpiffeId) -> Result<Option<AgentRecord>, StoreError>;

    /// One page of the agents that pass the filter, in the order of their first attestation.
    ///
    /// # Errors
    /// [`StoreError::BadPageToken`], or the database cannot be read.
    async fn list_agents(
        &self,
        filter: AgentFilter,
        page: PageRequest,
    ) -> Result<Page<AgentRecord>, StoreError>;

    /// How many agents pass the filter.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn count_agents(&self, filter: AgentFilter) -> Result<u64, StoreError>;
}

/// Join tokens.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Stores a new token, and in the same transaction the alias entry that names its agent, if there is one.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], or as [`EntryStore::create_entries`] for the alias.
    async fn create_token(
        &self,
        token: TokenRecord,
        alias: Option<EntryRecord>,
        now: i64,
    ) -> Result<Option<Created>, StoreError>;

    /// Uses the token with that [`TokenRecord::id`], as [`TokenRecord::consume`] says. Of several keys that come at once, one is
    /// the first.
    ///
    /// # Errors
    /// [`StoreError::TokenUnknown`], or why it cannot be used.
    async fn consume_token(&self, id: &str, by: TokenUse) -> Result<Consumed, StoreError>;

    /// Deletes the token with that [`TokenRecord::id`] and returns it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the commit failed.
    async fn delete_token(&self, id: &str) -> Result<TokenRecord, StoreError>;

    /// Deletes the tokens whose life ended before `expired_before` (Unix seconds) and returns how many.
    ///
    /// # Errors
    /// The commit failed.
    async fn prune_tokens(&self, expired_before: i64) -> Result<u64, StoreError>;

    /// The token with that [`TokenRecord::id`], used or not.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn get_token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError>;

    /// All tokens, in the order of their ends.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn list_tokens(&self) -> Result<Vec<TokenRecord>, StoreError>;
}

/// Bundles, ours among them.
#[async_trait]
pub trait BundleStore: Send + Sync {
    /// Stores a bundle that must be new.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    async fn create_bundle(&self, bundle: BundleRecord) -> Result<(), StoreError>;

    /// Stores a bundle in place of the one of its trust domain, if there is one. The same again is no change.
    ///
    /// # Errors
    /// The commit failed.
    async fn set_bundle(&self, bundle: BundleRecord) -> Result<(), StoreError>;

    /// Reads, changes and writes a bundle in one transaction, and returns what it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the commit failed.
    async fn modify_bundle(
        &self,
        trust_domain: &TrustDomain,
        change: BundleChange,
    ) -> Result<BundleRecord, StoreError>;

    /// Deletes a bundle.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::BundleInUse`] in mode [`DeleteMode::Restrict`].
    async fn delete_bundle(&self, trust_domain: &TrustDomain, mode: DeleteMode) -> Result<(), StoreError>;

    /// The bundle of a trust domain.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn get_bundle(&self, trust_domain: &TrustDomain) -> Result<Option<BundleRecord>, StoreError>;

    /// One page of the bundles, by name of trust domain.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn list_bundles(&self, page: PageRequest) -> Result<Page<BundleRecord>, StoreError>;

    /// How many bundles there are.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn count_bundles(&self) -> Result<u64, StoreError>;
}

/// The CA's journals: which authorities are prepared, active and old. What the bytes mean is the CA's affair.
#[async_trait]
pub trait JournalStore: Send + Sync {
    /// The journal of that name.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn load_journal(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Stores the journal, and with it, in the same transaction, the change that it means for our bundle (which is
    /// created when it is not there). So an authority is never in use and unpublished. Returns the bundle.
    ///
    /// # Errors
    /// The commit failed.
    async fn save_journal(
        &self,
        name: &str,
        data: Vec<u8>,
        trust_domain: &TrustDomain,
        change: BundleChange,
    ) -> Result<BundleRecord, StoreError>;
}

/// All that there is, in one piece.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// What was committed by one moment after the call, in the form that a store of the same kind is restored from. Nobody waits
    /// for it.
    ///
    /// # Errors
    /// The database cannot be read, or there is no room for a copy of it.
    async fn back_up(&self) -> Result<Vec<u8>, StoreError>;
}

/// The last time that was believed, so that what the clock shows after a restart can be compared with it.
#[async_trait]
pub trait ClockStore: Send + Sync {
    /// What [`Self::save_clock`] stored last.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn load_clock(&self) -> Result<Option<Seen>, StoreError>;

    /// Stores a time that was believed. It is a commit like any other: it fails when the disk does.
    ///
    /// # Errors
    /// The commit failed.
    async fn save_clock(&self, seen: Seen) -> Result<(), StoreError>;
}

/// The log of what changed, and the way to begin with it.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// The position of the latest event that this process has heard of. It changes with each commit that writes one, soon
    /// after it where another server made it. It is for those who wait for the next; how far the log goes says
    /// [`Self::latest_position`].
    fn changes(&self) -> watch::Receiver<u64>;

    /// The position of the latest event that any server had committed by the time of the call. When it is answered,
    /// [`Self::changes`] shows that position or a later one, so that those who follow the log are on their way.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn latest_position(&self) -> Result<u64, StoreError>;

    /// At most `limit` events after `position`, oldest first.
    ///
    /// # Errors
    /// [`StoreError::EventsPruned`] when some of them are gone; then [`Self::snapshot`] is the way.
    async fn events_after(&self, position: u64, limit: u32) -> Result<Vec<Event>, StoreError>;

    /// All entries, agents and bundles, and the position in the log at which they were so.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Forgets all but the last `keep` events and returns how many went.
    ///
    /// # Errors
    /// The commit failed.
    async fn prune_events(&self, keep: u64) -> Result<u64, StoreError>;
}
