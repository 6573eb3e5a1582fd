//! What the store says about entries, agents and bundles, in memory: who is authorized for what is answered
//! without a statement to the database, and whoever waits for a change is told when it is committed.
//!
//! Owns the index, the task that follows the event log, and the subscriptions of agents. It must never write
//! to the store, and never decide whether a caller is who it says.

mod index;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use arc_swap::ArcSwap;
use svidecar_authority::bundle::BundleSet;
use svidecar_id::{SpiffeId, TrustDomain};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use self::index::{Affected, Index};
use crate::{
    bundles,
    store::{AgentRecord, BundleRecord, EntryRecord, Event, EventKind, Snapshot, Store, StoreError},
};

/// Events read from the log at a time.
const BATCH: u32 = 1000;

/// How long a database that cannot be read is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// How long a reader waits for the index to reach what is committed, before it takes what there is.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The index, kept current by [`Self::follow`].
pub struct AuthorizedEntries {
    store: Arc<dyn Store>,
    index: RwLock<Index>,
    position: watch::Sender<u64>,
    bundle_set: ArcSwap<BundleSet>,
    subscribers: Mutex<HashMap<SpiffeId, watch::Sender<()>>>,
}

impl AuthorizedEntries {
    /// Reads everything once.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn open(store: Arc<dyn Store>, trust_domain: &TrustDomain) -> Result<Self, StoreError> {
        let snapshot = store.snapshot().await?;
        let position = snapshot.position;
        let index = Index::new(trust_domain, snapshot);
        let bundle_set = ArcSwap::from_pointee(bundles::to_set(index.bundles()));
        Ok(Self {
            store,
            index: RwLock::new(index),
            position: watch::Sender::new(position),
            bundle_set,
            subscribers: Mutex::default(),
        })
    }

    /// Follows the event log until `shutdown`. What goes wrong is logged and tried again.
    pub async fn follow(&self, shutdown: CancellationToken) {
        let mut changes = self.store.changes();
        loop {
            let latest = *changes.borrow_and_update();
            if latest > *self.position.borrow() {
                if let Err(error) = self.catch_up().await {
                    tracing::error!(code = error.code().name(), %error, "cannot read what changed; agents keep what they have, trying again");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = time::sleep(RETRY) => continue,
                    }
                }
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        let position = *self.position.borrow();
        match self.store.events_after(position, BATCH).await {
            Ok(events) => {
                let Some(last) = events.last().map(|event| event.position) else { return Ok(()) };
                self.apply(&events).await?;
                self.position.send_replace(last);
                Ok(())
            }
            Err(StoreError::EventsPruned { .. }) => {
                let snapshot = self.store.snapshot().await?;
                tracing::info!(position = snapshot.position, "the event log was pruned; took a snapshot");
                self.replace(snapshot);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what the events name, as it is now, and puts it into the index.
    async fn apply(&self, events: &[Event]) -> Result<(), StoreError> {
        let ids = keys(events, EventKind::Entry);
        let mut entries: HashMap<String, EntryRecord> = self
            .store
            .get_entries(ids.clone())
            .await?
            .into_iter()
            .map(|entry| (entry.id.clone(), entry))
            .collect();
        let mut agents = Vec::new();
        for id in keys(events, EventKind::Agent) {
            let Ok(id) = SpiffeId::parse(&id) else { continue };
            agents.push((self.store.get_agent(&id).await?, id));
        }
        let mut changed_bundles = Vec::new();
        for name in keys(events, EventKind::Bundle) {
            let Ok(name) = TrustDomain::parse(&name) else { continue };
            changed_bundles.push((self.store.get_bundle(&name).await?, name));
        }

        let mut affected = Affected::default();
        let mut index = self.write();
        for id in ids {
            let entry = entries.remove(&id);
            index.set_entry(&id, entry, &mut affected);
        }
        for (agent, id) in agents {
            index.set_agent(&id, agent, &mut affected);
        }
        let bundles_changed = !changed_bundles.is_empty();
        for (bundle, name) in changed_bundles {
            index.set_bundle(&name, bundle, &mut affected);
        }
        if bundles_changed {
            self.bundle_set.store(Arc::new(bundles::to_set(index.bundles())));
        }
        drop(index);
        self.announce(&affected);
        Ok(())
    }

    fn replace(&self, snapshot: Snapshot) {
        let position = snapshot.position;
        let mut index = self.write();
        index.reset(snapshot);
        self.bundle_set.store(Arc::new(bundles::to_set(index.bundles())));
        drop(index);
        self.position.send_replace(position);
        self.announce(&Affected::All);
    }

    fn announce(&self, affected: &Affected) {
        let mut subscribers = self.subscribers();
        subscribers.retain(|_, sender| !sender.is_closed());
        match affected {
            Affected::All => subscribers.values().for_each(|sender| sender.send_replace(())),
            Affected::Agents(agents) => agents
                .iter()
                .filter_map(|agent| subscribers.get(agent))
                .for_each(|sender| sender.send_replace(())),
        }
    }

    /// Waits until all that was committed before the call, by whatever server, is in the index, so that a caller sees its
    /// own writes.
    pub async fn current(&self) {
        let caught_up = async {
            let committed = self.store.latest_position().await.ok()?;
            let mut position = self.position.subscribe();
            position.wait_for(|position| *position >= committed).await.ok().map(|reached| *reached)
        };
        // When the database cannot be read, what is in memory is the best answer there is.
        drop(time::timeout(CATCH_UP, caught_up).await);
    }

    /// The position in the event log that the index has reached.
    #[must_use]
    pub fn position(&self) -> u64 {
        *self.position.borrow()
    }

    /// Signals each time what the agent is authorized for, or the agent itself, may have changed. `None` when it has
    /// `most` subscriptions already.
    #[must_use]
    pub fn subscribe(&self, agent: &SpiffeId, most: usize) -> Option<watch::Receiver<()>> {
        let mut subscribers = self.subscribers();
        let sender = subscribers.entry(agent.clone()).or_insert_with(|| watch::Sender::new(()));
        (sender.receiver_count() < most).then(|| sender.subscribe())
    }

    /// All entries that the agent may issue for at `now` (Unix seconds), ordered by entry ID.
    #[must_use]
    pub fn of_agent(&self, agent: &SpiffeId, now: i64) -> Vec<Arc<EntryRecord>> {
        self.read().of_agent(agent, now)
    }

    /// The entry, if the agent may issue for it at `now`.
    #[must_use]
    pub fn entry_of_agent(&self, agent: &SpiffeId, entry_id: &str, now: i64) -> Option<Arc<EntryRecord>> {
        self.read().entry_of_agent(agent, entry_id, now)
    }

    /// All entries that give this identity at `now`.
    #[must_use]
    pub fn with_spiffe_id(&self, id: &SpiffeId, now: i64) -> Vec<Arc<EntryRecord>> {
        self.read().with_spiffe_id(id, now)
    }

    /// An attested agent.
    #[must_use]
    pub fn agent(&self, id: &SpiffeId) -> Option<Arc<AgentRecord>> {
        self.read().agent(id)
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<BundleRecord>> {
        self.read().bundle(trust_domain)
    }

    /// All bundles in the form that verifies peers.
    #[must_use]
    pub fn bundle_set(&self) -> Arc<BundleSet> {
        self.bundle_set.load_full()
    }

    /// How many entries, agents and bundles there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        self.read().counts()
    }

    // A panic while the lock is held leaves a whole index behind: each change is one insert or remove at a time.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribers(&self) -> MutexGuard<'_, HashMap<SpiffeId, watch::Sender<()>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The distinct keys of one kind, in the order of their last event.
fn keys(events: &[Event], kind: EventKind) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut keys: Vec<String> = events
        .iter()
        .rev()
        .filter(|event| event.kind == kind && seen.insert(event.key.as_str()))
        .map(|event| event.key.clone())
        .collect();
    keys.reverse();
    keys
}
