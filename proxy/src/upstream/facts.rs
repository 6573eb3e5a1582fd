//! What is known of one upstream connection for as long as it lives, and whether a new request may go over it.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use svidecar_config::address::Address;
use svidecar_process::clock;
use tokio::time::Instant;
use tracing::warn;

use super::place::Place;
use crate::{
    plan::{snapshot::Snapshot, upstream::UpstreamSpec},
    runtime::{connections::time_to_leave, peer::Peer, worker::Worker},
};

/// What is known of one upstream connection.
pub struct ConnectionFacts {
    /// What it was dialled for.
    pub spec: Arc<UpstreamSpec>,
    /// What the settings call the other end.
    pub name: Address,
    /// The address that was dialled.
    pub address: String,
    /// Who answered, when the connection is mTLS.
    pub server: Option<Rc<Peer>>,
    /// Others use it at the same time: it follows itself what happens to it, for all of them.
    pub is_shared: bool,
    /// From when on it takes no new request, because its server's SVID ends.
    leaves_at: Option<Instant>,
    /// The snapshot that last had no objection to the server.
    accepted_by: Cell<u64>,
    is_retired: Cell<bool>,
}

impl ConnectionFacts {
    /// A connection that may be used, to `place`. `version` is the snapshot's from before the handshake; `server` is who
    /// answered, and `is_shared` as in [`Self::is_shared`].
    #[must_use]
    pub fn new(
        worker: &Worker,
        version: u64,
        place: &Place,
        (server, is_shared): (Option<Rc<Peer>>, bool),
    ) -> Rc<Self> {
        let expires = worker.shared.current.load().plan.expiry_grace().is_some();
        let left = server
            .as_ref()
            .filter(|_| expires)
            .map(|server| time_to_leave(server.facts().not_after, clock::unix(), rand::random()));
        Rc::new(Self {
            spec: Arc::clone(&place.spec),
            name: place.name.clone(),
            address: place.location.to_string(),
            server,
            is_shared,
            leaves_at: left.and_then(|left| clock::timer().checked_add(left)),
            accepted_by: Cell::new(version),
            is_retired: Cell::new(false),
        })
    }

    /// Takes the connection out of use: running requests end as they will, no new one starts.
    pub fn retire(&self) {
        self.is_retired.set(true);
    }

    /// Whether it was taken out of use.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.is_retired.get()
    }

    /// The version of the last snapshot that had no objection to the server.
    #[must_use]
    pub fn accepted_by(&self) -> u64 {
        self.accepted_by.get()
    }

    /// How long until it should begin to leave, if its server's SVID ends at all.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.leaves_at.map(|end| end.saturating_duration_since(clock::timer()))
    }

    /// Whether a new request may go over it now: nobody retired it, and its server would still be accepted.
    #[must_use]
    pub fn is_usable(&self, worker: &Worker) -> bool {
        if self.is_retired.get() || self.leaves_at.is_some_and(|end| end <= clock::timer()) {
            return false;
        }
        let version = worker.version();
        if self.accepted_by.replace(version) != version && self.objection(worker).is_some() {
            self.retire();
            return false;
        }
        true
    }

    /// Why its server would not be accepted now, if so.
    #[must_use]
    pub fn objection(&self, worker: &Worker) -> Option<String> {
        let reason = objection(&worker.shared.current.load(), &self.spec, self.server.as_ref()?)?;
        warn!(upstream = %self.spec.name, address = self.address, reason, "The server would not be accepted any more; closing its connection");
        Some(reason)
    }
}

fn objection(snapshot: &Snapshot, spec: &UpstreamSpec, server: &Peer) -> Option<String> {
    match server.still_trusted(&snapshot.identity.bundles, clock::unix()) {
        Err(error) => Some(error.to_string()),
        Ok(()) => {
            let expected = spec.tls.as_ref().is_none_or(|tls| tls.expects(server.id()));
            (!expected).then(|| format!("`{}` is not an expected server ID", server.id()))
        }
    }
}
