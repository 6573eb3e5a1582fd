//! An mTLS connection from a peer: who the peer is, and what rules its requests now.
//!
//! Knows no protocol that is spoken on it.

use std::{
    cell::{Ref, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls_pki_types::UnixTime;
use svidecar_code::Code;
use svidecar_config::proxy::{ListenerProtocol, OnPeerExpiry};
use svidecar_id::SpiffeId;
use tracing::{info, warn};

use crate::{
    admit::decide,
    forward::exchange::Exchange,
    io::address::PeerAddress,
    message::identity::{IdentityHeaders, PeerFacts, PeerHeaders},
    plan::{Inbound, snapshot::Snapshot},
    record::Origin,
    runtime::{
        connections::{Ending, Event, Fate, Follower, LOSER_GRACE, time_to_leave},
        drain::Direction,
        peer::Peer,
        worker::Worker,
    },
    upstream::{Upstream, upstreams::Upstreams},
};

/// An mTLS connection whose peer is verified.
pub struct PeerConnection {
    /// The thread it lives on.
    pub(super) worker: Rc<Worker>,
    upstreams: Rc<Upstreams>,
    /// Where the peer is.
    address: PeerAddress,
    /// Who the peer is.
    pub(super) peer: Peer,
    /// Our own ID when the connection came.
    own_id: Option<SpiffeId>,
    rules: RefCell<Rules>,
    /// What the app is told of the peer, and by which settings.
    peer_headers: RefCell<Option<(Arc<IdentityHeaders>, Rc<PeerHeaders>)>>,
}

/// What rules the requests of a connection: the part of a snapshot that concerns it.
pub(super) struct Rules {
    version: u64,
    pub(super) listener: Arc<Inbound>,
    pub(super) origin: Rc<Origin>,
    pub(super) app: Rc<Upstream>,
    pub(super) on_expiry: OnPeerExpiry,
}

impl PeerConnection {
    /// A connection that came to the listener of that name; `None` when it is gone.
    pub(super) fn new(
        worker: Rc<Worker>,
        upstreams: Rc<Upstreams>,
        name: &str,
        address: PeerAddress,
        peer: Peer,
    ) -> Option<Rc<Self>> {
        // Of now: another policy, or our first identity, may have come while the peer took its time for the handshake.
        let (version, snapshot) = (worker.version(), worker.shared.current.load_full());
        let listener = Arc::clone(snapshot.plan.inbound(name)?);
        let rules =
            RefCell::new(Rules::new((&worker, &upstreams), (version, &snapshot), listener, address, &peer));
        let own_id = snapshot.identity.svid.as_ref().map(|svid| svid.id.clone());
        let peer_headers = RefCell::default();
        Some(Rc::new(Self { worker, upstreams, address, peer, own_id, rules, peer_headers }))
    }

    /// What rules now: looked up again when there is another snapshot.
    pub(super) fn rules(&self) -> Ref<'_, Rules> {
        let version = self.worker.version();
        if self.rules.borrow().version != version {
            let snapshot = self.worker.shared.current.load();
            let mut rules = self.rules.borrow_mut();
            // As it was when it is gone.
            let listener = snapshot.plan.inbound(&rules.listener.name).unwrap_or(&rules.listener).clone();
            let ours = (&*self.worker, &*self.upstreams);
            *rules = Rules::new(ours, (version, &snapshot), listener, self.address, &self.peer);
        }
        self.rules.borrow()
    }

    /// The listener, the beginning of its records, and the app.
    pub(super) fn now(&self) -> (Arc<Inbound>, Rc<Origin>, Rc<Upstream>) {
        let rules = self.rules();
        (Arc::clone(&rules.listener), Rc::clone(&rules.origin), Rc::clone(&rules.app))
    }

    pub(super) fn protocol(&self) -> ListenerProtocol {
        self.rules().listener.settings.protocol
    }

    /// Follows what may end a connection of this peer.
    pub(super) fn follower(&self) -> Follower {
        let mut follower = self.worker.follower(Direction::Inbound);
        let not_after = self.peer.facts().not_after;
        let now = UnixTime::now();
        match self.rules().on_expiry {
            OnPeerExpiry::Drain => follower.expire_after(time_to_leave(not_after, now, rand::random())),
            // The last second of validity counts.
            OnPeerExpiry::Close => {
                follower.expire_after(time_to_leave(not_after, now, 0.0) + Duration::from_secs(1));
            }
            OnPeerExpiry::Ignore => {}
        }
        follower
    }

    /// For the requests of one connection.
    pub(super) fn exchange(&self) -> Exchange {
        Exchange::new(&self.worker, &self.rules().origin)
    }

    /// The headers that tell the app who the peer is: made once per connection, and again when the settings change.
    pub(super) fn peer_headers(&self, listener: &Inbound) -> Rc<PeerHeaders> {
        let mut cached = self.peer_headers.borrow_mut();
        if let Some((by, headers)) = &*cached
            && Arc::ptr_eq(by, &listener.headers)
        {
            return Rc::clone(headers);
        }
        let facts = PeerFacts { id: self.peer.id(), own_id: self.own_id.as_ref(), chain: self.peer.chain() };
        let made = Rc::new(listener.headers.of_peer(&facts));
        *cached = Some((Arc::clone(&listener.headers), Rc::clone(&made)));
        made
    }

    pub(super) fn denied(&self, listener: &Inbound, rule: &str) {
        if let Some(leave) = self.worker.shared.throttle.leave(Instant::now()) {
            info!(
                listener = %listener.name,
                peer = %self.peer.id(),
                address = %self.address,
                rule,
                code = Code::DeniedByRule.name(),
                kept_back = leave.kept_back,
                "A connection is denied by policy"
            );
        }
    }
}

impl PeerConnection {
    /// What an event means for a TCP connection of this peer.
    pub(super) fn judge_tcp(&self, event: Event) -> Fate {
        self.judge(event, || {
            let rules = self.rules();
            if decide::connection(&rules.listener.policy, self.peer.id()).is_allowed() {
                return Fate::GoesOn;
            }
            info!(listener = %rules.listener.name, peer = %self.peer.id(), "A live connection is no longer allowed; closing it");
            Fate::Finishes(Ending::NoLongerAllowed, Some(LOSER_GRACE))
        })
    }

    /// What an event means for any connection of this peer; `decide_again` says what only the policy can say.
    pub(super) fn judge(&self, event: Event, decide_again: impl FnOnce() -> Fate) -> Fate {
        let snapshot = self.worker.shared.current.load();
        match event {
            Event::Changed if snapshot.plan.inbound(&self.rules().listener.name).is_none() => {
                // A listener that the settings no longer have takes its connections along.
                Fate::Finishes(Ending::Drained, Some(snapshot.plan.settings.drain_timeout.get()))
            }
            Event::Changed if self.is_distrusted(&snapshot) => {
                Fate::Finishes(Ending::NoLongerAllowed, Some(LOSER_GRACE))
            }
            Event::Changed => decide_again(),
            Event::PeerExpired => snapshot
                .plan
                .expiry_grace()
                .map_or(Fate::GoesOn, |grace: Duration| Fate::Finishes(Ending::PeerExpired, Some(grace))),
            // Nothing has a good moment to be cut: it gets the whole drain timeout, then it is forced.
            Event::Draining => Fate::Finishes(Ending::Drained, None),
        }
    }

    /// Whether the peer's chain would not be accepted any more, because a bundle changed.
    fn is_distrusted(&self, snapshot: &Snapshot) -> bool {
        let Err(error) = self.peer.still_trusted(&snapshot.identity.bundles, UnixTime::now()) else {
            return false;
        };
        if let Some(leave) = self.worker.shared.throttle.leave(Instant::now()) {
            warn!(
                listener = %self.rules().listener.name,
                peer = %self.peer.id(),
                address = %self.address,
                code = error.code().name(),
                error = %error,
                kept_back = leave.kept_back,
                "A live connection's peer would not be accepted any more; closing it"
            );
        }
        true
    }
}

impl Rules {
    fn new(
        (worker, upstreams): (&Worker, &Upstreams),
        // The version was read first: at worst the rules are looked up once more.
        (version, snapshot): (u64, &Snapshot),
        listener: Arc<Inbound>,
        address: PeerAddress,
        peer: &Peer,
    ) -> Self {
        let client = address.socket_address();
        Self {
            version,
            origin: Origin::inbound(&listener.name, &listener.policy, client, Some(peer.id())),
            app: upstreams.of(worker, &listener.app),
            on_expiry: snapshot.plan.settings.on_peer_expiry,
            listener,
        }
    }
}
