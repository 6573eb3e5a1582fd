//! What changes while the proxy runs, as one immutable value behind an atomic pointer.
//!
//! A change builds a new snapshot and swaps; who holds the old one finishes with it. Nothing in a snapshot is ever
//! modified. Each swap raises the version, which live connections follow.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use svidecar_process::clock;
use svidecar_workload::Identity;
use tokio::sync::watch;

use super::tls::IdentityInForce;
use crate::plan::Plan;

/// Everything that a decision may rest on.
pub struct Snapshot {
    /// Who we are, whom we can verify.
    pub identity: Arc<Identity>,
    /// Listeners, policies and settings.
    pub plan: Arc<Plan>,
}

/// The snapshot in force.
pub struct Current {
    snapshot: ArcSwap<Snapshot>,
    version: watch::Sender<u64>,
    /// The same number, for those who look at it with each request.
    number: Arc<AtomicU64>,
    /// Writers take turns: each builds on the snapshot that it replaces.
    writing: Mutex<()>,
}

impl Current {
    /// Starts without an identity.
    #[must_use]
    pub fn new(plan: Arc<Plan>, workload_api: impl fmt::Display) -> Arc<Self> {
        let identity = Arc::new(Identity::waiting(workload_api, clock::unix()));
        let snapshot = ArcSwap::from_pointee(Snapshot { identity, plan });
        let (version, number) = (watch::Sender::new(1), Arc::new(AtomicU64::new(1)));
        Arc::new(Self { snapshot, version, number, writing: Mutex::new(()) })
    }

    /// The snapshot of now, without a lock.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The snapshot of now, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Follows the version: it grows with each new snapshot.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The version that is in force, for those who only ask whether it changed.
    #[must_use]
    pub const fn version(&self) -> &Arc<AtomicU64> {
        &self.number
    }

    /// Puts a new identity in force.
    pub fn replace_identity(&self, identity: Arc<Identity>) {
        self.replace(|old| Snapshot { identity, plan: Arc::clone(&old.plan) });
    }

    /// Puts a new plan in force.
    pub fn replace_plan(&self, plan: Arc<Plan>) {
        self.replace(|old| Snapshot { identity: Arc::clone(&old.identity), plan });
    }

    /// Has everything that rests on the time looked at again: the clock was set, or the machine was suspended.
    pub fn look_again(&self) {
        self.replace(|old| Snapshot { identity: Arc::clone(&old.identity), plan: Arc::clone(&old.plan) });
    }

    fn replace(&self, make: impl FnOnce(&Snapshot) -> Snapshot) {
        // The guarded value is (), which no panic can leave half written.
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = make(&self.snapshot.load());
        self.snapshot.store(Arc::new(new));
        let number = self.number.fetch_add(1, Ordering::Release) + 1;
        drop(writing);
        self.version.send_replace(number);
    }
}

impl IdentityInForce for Current {
    fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.load().identity)
    }
}
