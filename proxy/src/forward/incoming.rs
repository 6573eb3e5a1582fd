//! An accepted connection: who is at its other end, and what rules it now.
//!
//! Knows no protocol that is spoken on it.

use std::{cell::RefCell, rc::Rc, time::Duration};

use svidecar_config::proxy::OnPeerExpiry;
use svidecar_process::clock;
use tracing::warn;

use super::{
    exchange::Exchange,
    rules::{AnyListener, Rules},
};
use crate::{
    admit::Party,
    plan::snapshot::Snapshot,
    runtime::{
        connections::{Ending, Event, Fate, Follower, LOSER_GRACE, time_to_leave},
        worker::Worker,
    },
    upstream::{facts::ConnectionFacts, upstreams::Upstreams},
};

/// A connection of a peer that is verified, or of our workload.
pub struct Incoming {
    /// Who is at its other end.
    pub party: Party,
    upstreams: Rc<Upstreams>,
    rules: RefCell<Rc<Rules>>,
}

impl Incoming {
    /// A connection that came to a listener; `None` when the listener is gone with a reload that came meanwhile.
    #[must_use]
    pub fn new(party: Party, upstreams: Rc<Upstreams>, listener: &AnyListener) -> Option<Rc<Self>> {
        let rules = RefCell::new(rules_of_now(&party, &upstreams, listener)?);
        Some(Rc::new(Self { party, upstreams, rules }))
    }

    /// The thread it lives on.
    #[must_use]
    pub const fn worker(&self) -> &Rc<Worker> {
        &self.party.worker
    }

    /// What rules now: looked up again when there is another snapshot.
    #[must_use]
    pub fn rules(&self) -> Rc<Rules> {
        let mut rules = self.rules.borrow_mut();
        // As they were when the listener is gone.
        if rules.version != self.worker().version()
            && let Some(new) = rules_of_now(&self.party, &self.upstreams, &rules.listener)
        {
            *rules = new;
        }
        Rc::clone(&rules)
    }

    /// Follows what may end it.
    #[must_use]
    pub fn follower(&self) -> Follower {
        let mut follower = self.worker().follower(self.rules().listener.direction());
        let Some(peer) = &self.party.peer else { return follower };
        let (not_after, now) = (peer.proved.facts().not_after, clock::unix());
        match self.worker().shared.current.load().plan.settings.on_peer_expiry {
            OnPeerExpiry::Drain => follower.expire_after(time_to_leave(not_after, now, rand::random())),
            // The last second of validity counts.
            OnPeerExpiry::Close => {
                follower.expire_after(time_to_leave(not_after, now, 0.0) + Duration::from_secs(1));
            }
            OnPeerExpiry::Ignore => {}
        }
        follower
    }

    /// For the requests that come over it.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        Exchange::new(self.worker(), &self.rules().origin)
    }

    /// What an event means for it, or for what it carries to `upstream`; `decide_again` says what only the policy can say.
    pub fn judge(
        &self,
        event: Event,
        upstream: Option<&ConnectionFacts>,
        decide_again: impl FnOnce(&Rules) -> Fate,
    ) -> Fate {
        let snapshot = self.worker().shared.current.load();
        match event {
            Event::Changed => {
                let rules = self.rules();
                if rules.listener.of(&snapshot.plan).is_none() {
                    // A listener that the settings no longer have takes its connections along.
                    return Fate::Finishes(Ending::Drained, Some(snapshot.plan.settings.drain_timeout.get()));
                }
                let objects = |facts: &ConnectionFacts| facts.objection(self.worker()).is_some();
                if self.is_distrusted(&rules, &snapshot) || upstream.is_some_and(objects) {
                    return Fate::Finishes(Ending::NoLongerAllowed, Some(LOSER_GRACE));
                }
                decide_again(&rules)
            }
            Event::PeerExpired => snapshot
                .plan
                .expiry_grace()
                .map_or(Fate::GoesOn, |grace| Fate::Finishes(Ending::PeerExpired, Some(grace))),
            // Nothing has a good moment to be cut: it gets the whole drain timeout, then it is forced.
            Event::Draining => Fate::Finishes(Ending::Drained, None),
        }
    }

    /// Whether the peer's chain would not be accepted any more, because a bundle changed.
    fn is_distrusted(&self, rules: &Rules, snapshot: &Snapshot) -> bool {
        let Some(peer) = &self.party.peer else { return false };
        let Err(error) = peer.proved.still_trusted(&snapshot.identity.bundles, clock::unix()) else {
            return false;
        };
        if let Some(leave) = self.worker().shared.throttle.leave(clock::monotonic()) {
            warn!(
                listener = %rules.listener.name(),
                peer = %peer.id(),
                address = %self.party.address,
                code = error.code().name(),
                error = %error,
                kept_back = leave.kept_back,
                "A live connection's peer would not be accepted any more; closing it"
            );
        }
        true
    }
}

/// By the listener as it is now, if it still is.
fn rules_of_now(party: &Party, upstreams: &Upstreams, listener: &AnyListener) -> Option<Rc<Rules>> {
    let version = party.worker.version();
    let snapshot = party.worker.shared.current.load();
    let listener = listener.of(&snapshot.plan)?;
    Some(Rules::new(party, upstreams, (version, &snapshot), listener))
}
