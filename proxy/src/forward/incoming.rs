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
    admit::{Party, authenticate::Objection},
    plan::Plan,
    runtime::{
        connections::{Ending, Event, Fate, Follower, LOSER_GRACE, time_to_leave},
        drain::Direction,
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
        let rules = RefCell::new(rules_of_now(&party, &upstreams, |plan| listener.of(plan))?);
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
        if rules.version != self.worker().version() {
            // As it was when the listener is gone: what else changed rules in what time is left.
            let listener = |plan: &_| rules.listener.of(plan).or_else(|| Some(rules.listener.clone()));
            if let Some(new) = rules_of_now(&self.party, &self.upstreams, listener) {
                *rules = new;
            }
        }
        Rc::clone(&rules)
    }

    /// It gave up what goes over this connection, which carries more for others.
    pub fn gave_up(&self, upstream: &ConnectionFacts) {
        if upstream.is_shared && self.rules.borrow().listener.direction() == Direction::Outbound {
            self.upstreams.aborts.note(self.party.address.source());
        }
    }

    /// How long the next thing that it asks for waits, because it gave up so much.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        let aborts = &self.upstreams.aborts;
        if aborts.is_empty() { None } else { aborts.pause(self.party.address.source()) }
    }

    /// Follows what may end it.
    #[must_use]
    pub fn follower(&self) -> Follower {
        let rules = self.rules();
        let follower = self.worker().follower(rules.listener.direction()).since(rules.version);
        let Some(peer) = &self.party.peer else { return follower.counted_as(&self.party.address.source()) };
        let mut follower = follower.counted_as(peer.id());
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
                if let Some(objection) = rules.row.objection() {
                    self.tell(&rules, objection);
                    return Fate::Finishes(objection.ending, Some(LOSER_GRACE));
                }
                if rules.listener.of(&snapshot.plan).is_none() {
                    // A listener that the settings no longer have takes its connections along.
                    return Fate::Finishes(Ending::Drained, Some(snapshot.plan.settings.drain_timeout.get()));
                }
                if let Some(ending) = upstream.and_then(|facts| facts.objection(self.worker())) {
                    return Fate::Finishes(ending, Some(LOSER_GRACE));
                }
                // Timers stand still while the machine does, and know nothing of a clock that was set.
                let peer = self.party.peer.as_ref();
                if let Some(grace) = snapshot.plan.expiry_grace()
                    && (peer.is_some_and(|peer| peer.proved.is_expired(clock::unix()))
                        || upstream.is_some_and(ConnectionFacts::has_ended))
                {
                    return Fate::Finishes(Ending::PeerExpired, Some(grace));
                }
                decide_again(&rules)
            }
            Event::PeerExpired => snapshot
                .plan
                .expiry_grace()
                .map_or(Fate::GoesOn, |grace| Fate::Finishes(Ending::PeerExpired, Some(grace))),
            Event::Weighed => Fate::GoesOn,
            // Nothing has a good moment to be cut: it gets the whole drain timeout, then it is forced.
            Event::Draining | Event::Crowded => Fate::Finishes(Ending::Drained, None),
        }
    }

    /// Says that the connection ends because one of its ends is not who it was.
    fn tell(&self, rules: &Rules, objection: &Objection) {
        let Some(leave) = self.worker().shared.throttle.leave(clock::monotonic()) else { return };
        warn!(
            listener = %rules.listener.name(),
            peer = self.party.id().map(display),
            address = %self.party.address,
            code = objection.refusal.code.name(),
            error = objection.refusal.detail,
            kept_back = leave.kept_back,
            "A live connection would not be accepted any more; closing it"
        );
    }
}

/// By the listener that `listener` finds in the plan of now, if it finds one.
fn rules_of_now(
    party: &Party,
    upstreams: &Upstreams,
    listener: impl FnOnce(&Plan) -> Option<AnyListener>,
) -> Option<Rc<Rules>> {
    let version = party.worker.version();
    let snapshot = party.worker.shared.current.load();
    let listener = listener(&snapshot.plan)?;
    Some(Rules::new(party, upstreams, (version, &snapshot), listener))
}
