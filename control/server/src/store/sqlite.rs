//! A store in one SQLite file.
//!
//! Owns the file, its schema and every statement. One thread writes, so that the order of the event log is the order of
//! the commits; readers have their own connections and never wait for it. Only one server uses a file, which a lock
//! holds: what that server has committed is all that there is.

mod agents;
mod backup;
mod bundles;
mod clock;
mod conditions;
mod connection;
mod entries;
mod error;
mod events;
mod evictions;
mod journals;
mod readers;
mod rows;
mod savepoint;
mod schema;
mod tokens;
mod writer;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rusqlite::Connection;
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::clock::Seen;
use tokio::sync::watch;

use self::{readers::Readers, savepoint::isolated, writer::Writer};
use super::{
    AgentFilter, AgentRecord, AgentStore, BackupStore, BundleChange, BundleRecord, BundleStore, ClockStore,
    Consumed, Created, DeleteMode, EntryFilter, EntryMask, EntryRecord, EntryStore, Event, EventLog,
    Eviction, JournalStore, Member, Page, PageRequest, Removed, Signed, Snapshot, StoreError, TokenRecord,
    TokenStore, TokenUse,
};

/// The store. Dropping it finishes what is queued and closes the file.
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
}

impl SqliteStore {
    /// Opens the file, which is created (0600, its directory 0700) when it is not there, and brings its schema
    /// up to date.
    ///
    /// # Errors
    /// The file or its directory cannot be had, another server uses it, or a newer version wrote it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            let (lock, connection) = connection::open_for_writing(&path)?;
            let readers = Readers::open(&path)?;
            let writer = Writer::start(connection, lock)?;
            Ok(Self { path, writer, readers })
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }

    /// Puts a copy that [`BackupStore::back_up`] made into the place of the file, which is moved into `aside`. `between` is done
    /// while neither is there and no server runs. Blocks.
    ///
    /// # Errors
    /// A server uses the file; the copy is not sound, or of a newer version: then nothing was changed. Or as `between`.
    pub fn restore<E: From<StoreError>>(
        path: &Path,
        copy: &[u8],
        aside: &Path,
        between: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        backup::restore(path, copy, aside, between)
    }

    /// Runs `work` in a transaction of the writer and returns when it is on disk.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.run(work).await
    }

    /// As [`Self::write`], for items of which each fails on its own.
    async fn write_each<I, T, F>(
        &self,
        items: Vec<I>,
        work: F,
    ) -> Result<Vec<Result<T, StoreError>>, StoreError>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(&Connection, I) -> Result<T, StoreError> + Send + 'static,
    {
        self.write(move |connection| {
            Ok(items.into_iter().map(|item| isolated(connection, || work(connection, item))).collect())
        })
        .await
    }

    /// Runs `work` in one read transaction, so that all it reads is of one moment.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.run(work).await
    }

    /// Reads, changes and writes one agent.
    async fn change_agent<F>(&self, id: &SpiffeId, change: F) -> Result<AgentRecord, StoreError>
    where
        F: FnOnce(&mut AgentRecord) -> Result<(), StoreError> + Send + 'static,
    {
        let id = id.clone();
        self.write(move |connection| agents::change(connection, &id, change)).await
    }
}

#[async_trait]
impl EntryStore for SqliteStore {
    async fn create_entries(
        &self,
        entries: Vec<EntryRecord>,
        now: i64,
    ) -> Result<Vec<Result<Created, StoreError>>, StoreError> {
        self.write_each(entries, move |connection, entry| entries::create(connection, entry, now)).await
    }

    async fn update_entries(
        &self,
        changes: Vec<EntryRecord>,
        mask: EntryMask,
    ) -> Result<Vec<Result<EntryRecord, StoreError>>, StoreError> {
        self.write_each(changes, move |connection, changes| entries::update(connection, changes, mask)).await
    }

    async fn delete_entries(
        &self,
        ids: Vec<String>,
    ) -> Result<Vec<Result<EntryRecord, StoreError>>, StoreError> {
        self.write_each(ids, |connection, id| entries::delete(connection, &id)).await
    }

    async fn prune_entries(&self, now: i64) -> Result<Vec<EntryRecord>, StoreError> {
        self.write(move |connection| entries::prune(connection, now)).await
    }

    async fn get_entry(&self, id: &str) -> Result<Option<EntryRecord>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| entries::find(connection, &id)).await
    }

    async fn get_entries(&self, ids: Vec<String>) -> Result<Vec<EntryRecord>, StoreError> {
        self.read(move |connection| {
            ids.iter().filter_map(|id| entries::find(connection, id).transpose()).collect()
        })
        .await
    }

    async fn list_entries(
        &self,
        filter: EntryFilter,
        page: PageRequest,
    ) -> Result<Page<EntryRecord>, StoreError> {
        self.read(move |connection| entries::list(connection, &filter, &page)).await
    }

    async fn count_entries(&self, filter: EntryFilter) -> Result<u64, StoreError> {
        self.read(move |connection| entries::count(connection, &filter)).await
    }
}

#[async_trait]
impl AgentStore for SqliteStore {
    async fn put_agent(&self, agent: AgentRecord, token: Option<(&str, &str)>) -> Result<(), StoreError> {
        let token = token.map(|(id, key)| (id.to_owned(), key.to_owned()));
        self.write(move |connection| {
            agents::check(connection, &agent.id)?;
            if let Some((id, key)) = token {
                tokens::find(connection, &id)?.ok_or(StoreError::TokenUnknown)?.check_not_barred(&key)?;
            }
            agents::put(connection, &agent)
        })
        .await
    }

    async fn renew_agent(&self, id: &SpiffeId, signed: Signed) -> Result<AgentRecord, StoreError> {
        self.change_agent(id, move |agent| agent.renew(signed)).await
    }

    async fn bring_agent_back(&self, member: Member, signed: Signed) -> Result<AgentRecord, StoreError> {
        self.write(move |connection| agents::bring_back(connection, member, signed)).await
    }

    async fn activate_agent_serial(&self, id: &SpiffeId, seen: String) -> Result<AgentRecord, StoreError> {
        self.change_agent(id, move |agent| {
            agent.see(&seen);
            Ok(())
        })
        .await
    }

    async fn set_agent_version(&self, id: &SpiffeId, version: String) -> Result<AgentRecord, StoreError> {
        self.change_agent(id, move |agent| {
            agent.agent_version = version;
            Ok(())
        })
        .await
    }

    async fn ban_agent(&self, id: &SpiffeId, why: Eviction) -> Result<Removed, StoreError> {
        let id = id.clone();
        self.write(move |connection| agents::ban(connection, &id, &why)).await
    }

    async fn delete_agent(&self, id: &SpiffeId, why: Eviction) -> Result<Removed, StoreError> {
        let id = id.clone();
        self.write(move |connection| agents::delete(connection, &id, &why)).await
    }

    async fn prune_evictions(&self, ended_before: i64) -> Result<u64, StoreError> {
        self.write(move |connection| evictions::prune(connection, ended_before)).await
    }

    async fn get_agent(&self, id: &SpiffeId) -> Result<Option<AgentRecord>, StoreError> {
        let id = id.clone();
        self.read(move |connection| agents::find(connection, &id)).await
    }

    async fn list_agents(
        &self,
        filter: AgentFilter,
        page: PageRequest,
    ) -> Result<Page<AgentRecord>, StoreError> {
        self.read(move |connection| agents::list(connection, &filter, &page)).await
    }

    async fn count_agents(&self, filter: AgentFilter) -> Result<u64, StoreError> {
        self.read(move |connection| agents::count(connection, &filter)).await
    }
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn create_token(
        &self,
        token: TokenRecord,
        alias: Option<EntryRecord>,
        now: i64,
    ) -> Result<Option<Created>, StoreError> {
        self.write(move |connection| {
            tokens::create(connection, &token)?;
            alias.map(|entry| entries::create(connection, entry, now)).transpose()
        })
        .await
    }

    async fn consume_token(&self, id: &str, by: TokenUse) -> Result<Consumed, StoreError> {
        let id = id.to_owned();
        self.write(move |connection| tokens::consume(connection, &id, by)).await
    }

    async fn delete_token(&self, id: &str) -> Result<TokenRecord, StoreError> {
        let id = id.to_owned();
        self.write(move |connection| tokens::delete(connection, &id)).await
    }

    async fn prune_tokens(&self, expired_before: i64) -> Result<u64, StoreError> {
        self.write(move |connection| tokens::prune(connection, expired_before)).await
    }

    async fn get_token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| tokens::find(connection, &id)).await
    }

    async fn list_tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(tokens::all).await
    }
}

#[async_trait]
impl BundleStore for SqliteStore {
    async fn create_bundle(&self, bundle: BundleRecord) -> Result<(), StoreError> {
        self.write(move |connection| bundles::create(connection, &bundle)).await
    }

    async fn set_bundle(&self, bundle: BundleRecord) -> Result<(), StoreError> {
        self.write(move |connection| bundles::put_if_changed(connection, &bundle)).await
    }

    async fn modify_bundle(
        &self,
        trust_domain: &TrustDomain,
        change: BundleChange,
    ) -> Result<BundleRecord, StoreError> {
        let trust_domain = trust_domain.clone();
        self.write(move |connection| {
            let bundle = bundles::find(connection, &trust_domain)?
                .ok_or_else(|| StoreError::not_found("bundle", &trust_domain))?;
            bundles::change(connection, bundle, change)
        })
        .await
    }

    async fn delete_bundle(&self, trust_domain: &TrustDomain, mode: DeleteMode) -> Result<(), StoreError> {
        let trust_domain = trust_domain.clone();
        self.write(move |connection| bundles::delete(connection, &trust_domain, mode)).await
    }

    async fn get_bundle(&self, trust_domain: &TrustDomain) -> Result<Option<BundleRecord>, StoreError> {
        let trust_domain = trust_domain.clone();
        self.read(move |connection| bundles::find(connection, &trust_domain)).await
    }

    async fn list_bundles(&self, page: PageRequest) -> Result<Page<BundleRecord>, StoreError> {
        self.read(move |connection| bundles::list(connection, &page)).await
    }

    async fn count_bundles(&self) -> Result<u64, StoreError> {
        self.read(bundles::count).await
    }
}

#[async_trait]
impl JournalStore for SqliteStore {
    async fn load_journal(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| journals::find(connection, &name)).await
    }

    async fn save_journal(
        &self,
        name: &str,
        data: Vec<u8>,
        trust_domain: &TrustDomain,
        change: BundleChange,
    ) -> Result<BundleRecord, StoreError> {
        let (name, trust_domain) = (name.to_owned(), trust_domain.clone());
        self.write(move |connection| {
            journals::put(connection, &name, &data)?;
            let found = bundles::find(connection, &trust_domain)?;
            bundles::change(connection, found.unwrap_or_else(|| BundleRecord::empty(trust_domain)), change)
        })
        .await
    }
}

#[async_trait]
impl BackupStore for SqliteStore {
    async fn back_up(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || backup::copy(&path)).await.map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl ClockStore for SqliteStore {
    async fn load_clock(&self) -> Result<Option<Seen>, StoreError> {
        self.read(clock::find).await
    }

    async fn save_clock(&self, seen: Seen) -> Result<(), StoreError> {
        self.write(move |connection| clock::put(connection, &seen)).await
    }
}

#[async_trait]
impl EventLog for SqliteStore {
    fn changes(&self) -> watch::Receiver<u64> {
        self.writer.changes()
    }

    async fn latest_position(&self) -> Result<u64, StoreError> {
        // Nobody else writes to the file, and the writer tells of a commit before it answers.
        Ok(*self.writer.changes().borrow())
    }

    async fn events_after(&self, position: u64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection| events::after(connection, position, limit)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.read(|connection| {
            Ok(Snapshot {
                position: events::latest_position(connection)?,
                entries: entries::all(connection)?,
                agents: agents::all(connection)?,
                bundles: bundles::all(connection)?,
            })
        })
        .await
    }

    async fn prune_events(&self, keep: u64) -> Result<u64, StoreError> {
        self.write(move |connection| events::prune(connection, keep)).await
    }
}

#[cfg(test)]
mod tests;
