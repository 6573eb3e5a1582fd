//! What is known of one upstream connection for as long as it lives, and whether a new request may go over it.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use svidecar_config::address::Address;
use svidecar_id::SpiffeId;
use svidecar_process::{clock, throttle::Leave};
use tokio::time::Instant;
use tracing::warn;

use super::place::Place;
use crate::{
    plan::{
        snapshot::Snapshot,
        upstream::{UpstreamPlace, UpstreamSpec},
    },
    runtime::{
        connections::{Ending, time_to_leave},
        peer::Peer,
        worker::Worker,
    },
};

/// What was in force before a handshake began: whatever came while it lasted is looked at again.
pub struct Before {
    version: u64,
    own_id: Option<SpiffeId>,
}

impl Before {
    /// A handshake, if there is to be one, begins now.
    #[must_use]
    pub fn handshake(worker: &Worker) -> Self {
        let version = worker.version();
        let own_id = worker.shared.current.load().identity.svid.as_ref().map(|svid| svid.id.clone());
        Self { version, own_id }
    }
}

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
    /// Who we were to the server.
    own_id: Option<SpiffeId>,
    /// Others use it at the same time: it follows itself what happens to it, for all of them.
    pub is_shared: bool,
    /// From when on it takes no new request, because its server's SVID ends.
    leaves_at: Option<Instant>,
    /// The snapshot that last had no objection.
    accepted_by: Cell<u64>,
    is_retired: Cell<bool>,
    _open: UpstreamPlace,
}

impl ConnectionFacts {
    /// A connection that may be used, to `place`, counted as one of those that are open. `before` is what was in force before
    /// the handshake; `server` is who answered, and `is_shared` as in [`Self::is_shared`].
    #[must_use]
    pub fn new(
        worker: &Worker,
        before: Before,
        (place, open): (&Place, UpstreamPlace),
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
            own_id: server.as_ref().and(before.own_id),
            server,
            is_shared,
            leaves_at: left.and_then(|left| clock::timer().checked_add(left)),
            accepted_by: Cell::new(before.version),
            is_retired: Cell::new(false),
            _open: open,
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

    /// The version of the last snapshot that had no objection.
    #[must_use]
    pub fn accepted_by(&self) -> u64 {
        self.accepted_by.get()
    }

    /// How long until it should begin to leave, if its server's SVID ends at all.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.leaves_at.map(|end| end.saturating_duration_since(clock::timer()))
    }

    /// Whether a new request may go over it now: nobody retired it, its server would still be accepted, and we still are
    /// who we were to it.
    #[must_use]
    pub fn is_usable(&self, worker: &Worker) -> bool {
        if self.is_retired.get() || self.leaves_at.is_some_and(|end| end <= clock::timer()) {
            return false;
        }
        let version = worker.version();
        if self.accepted_by.replace(version) != version
            && (self.objection(worker).is_some() || (self.leaves_at.is_some() && self.has_ended()))
        {
            self.retire();
            return false;
        }
        true
    }

    /// Whether its server's SVID has ended by the time of day, which timers know nothing of once it was set.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.is_expired(clock::unix()))
    }

    /// Why it would not be made now, if so.
    #[must_use]
    pub fn objection(&self, worker: &Worker) -> Option<Ending> {
        let (ending, reason) = self.reason(&worker.shared.current.load())?;
        if let Some(Leave { kept_back }) = worker.shared.throttle.leave(clock::monotonic()) {
            warn!(
                upstream = %self.spec.name,
                address = self.address,
                code = ending.code().name(),
                reason,
                kept_back,
                "A connection to a server would not be made any more; closing it"
            );
        }
        Some(ending)
    }

    fn reason(&self, snapshot: &Snapshot) -> Option<(Ending, String)> {
        let server = self.server.as_ref()?;
        if let Some(own_id) = self.own_id.as_ref().filter(|own_id| !snapshot.identity.has(own_id)) {
            let reason = format!("it was made while we were `{own_id}`, which is not ours any more");
            return Some((Ending::IdentityReplaced, reason));
        }
        if let Err(error) = server.still_trusted(&snapshot.identity.bundles, clock::unix()) {
            return Some((Ending::NoLongerAllowed, error.to_string()));
        }
        // By the settings of now, not by those that it was made by.
        let spec = snapshot.plan.outbound(&self.spec.name).map_or(&self.spec, |listener| &listener.upstream);
        let expected = spec.tls.as_ref().is_none_or(|tls| tls.expects(server.id()));
        (!expected).then(|| {
            let reason = format!("`{}` is not an expected server ID", server.id());
            (Ending::NoLongerAllowed, reason)
        })
    }
}
