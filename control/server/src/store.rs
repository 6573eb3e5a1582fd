//! What the trust domain remembers: entries, agents, join tokens, bundles, the CA journal, and the log of
//! their changes, in one SQLite file.
//!
//! Owns the file, its schema and every statement. One thread writes, so that the order of the event log is
//! the order of the commits; readers have their own connections and never wait for it. It must never check
//! who asks (services do), never read a clock (time is an argument), and never hold a private key.

mod agents;
mod bundles;
mod connection;
mod entries;
mod entry_filter;
mod entry_update;
mod error;
mod events;
mod journal;
mod readers;
mod record;
mod schema;
mod tokens;
mod writer;

use std::{path::Path, sync::Arc};

use rusqlite::Connection;
use tokio::sync::watch;

pub use agents::AgentFilter;
pub use bundles::DeleteMode;
pub use entry_filter::{EntryFilter, Match, Page, PageRequest};
pub use entry_update::EntryMask;
pub use error::StoreError;
pub use events::{Event, EventKind, Snapshot};
pub use record::{
    AgentRecord, BundleRecord, Created, EntryRecord, JOIN_TOKEN, JwtAuthority, Selector, TokenRecord,
    TokenUse, X509Authority, unix_seconds,
};
pub use tokens::Consumed;

use self::{readers::Readers, writer::Writer};

/// The store; a clone is another handle to the same file.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
}

impl Store {
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
            Ok(Self { writer: Arc::new(writer), readers: Arc::new(readers) })
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }

    /// The position of the latest committed event; it changes with each commit that writes one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.writer.changes()
    }

    /// Runs `work` in a transaction of the writer and returns when it is on disk.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.run(work).await
    }

    /// Runs `work` in one read transaction, so that all it reads is of one moment.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.run(work).await
    }
}

#[cfg(test)]
mod tests;
