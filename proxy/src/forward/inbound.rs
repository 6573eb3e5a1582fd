//! The way of an inbound connection: handshake, peer, and then request by request (HTTP) or as a whole (TCP):
//! decide, forward, record.
//!
//! What a peer's sidecar shares among its callers comes in here as many connections in one (`shared`); each of them goes
//! the same way, under the same verified peer.

mod caller;
mod multiplexed;

use std::{
    cell::{Ref, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls_pki_types::UnixTime;
use svidecar_config::proxy::{ListenerProtocol, OnPeerExpiry};
use svidecar_id::SpiffeId;
use tracing::{debug, info, warn};

pub use self::caller::InboundConnection;
use self::multiplexed::Opening;
use crate::{
    admit::decide,
    codes,
    forward::{
        self,
        exchange::{Exchange, note_tunnel, note_upstream},
        tcp::Tunnel,
    },
    io::{Buffer, Stream, address::PeerAddress, tls::Alpn},
    message::identity::{IdentityHeaders, PeerFacts, PeerHeaders},
    plan::{Inbound, snapshot::Snapshot},
    record::{self, Origin},
    runtime::{
        accept::{Accepted, Life},
        connections::{Lifeline, Over, time_to_leave},
        drain::Direction,
        handshake::{self, Authenticated, HandshakeFailure},
        peer::Peer,
        throttle::Leave,
        worker::Worker,
    },
    upstream::Upstream,
};

/// An mTLS connection whose peer is verified.
pub struct Link {
    /// The thread it lives on.
    worker: Rc<Worker>,
    /// Where the peer is.
    address: PeerAddress,
    /// Who the peer is.
    peer: Peer,
    /// Our own ID when the connection came.
    own_id: Option<SpiffeId>,
    rules: RefCell<Rules>,
    /// What the app is told of the peer, and by which settings.
    peer_headers: RefCell<Option<(Arc<IdentityHeaders>, Rc<PeerHeaders>)>>,
}

/// What rules the requests of a connection: the part of a snapshot that concerns it.
struct Rules {
    version: u64,
    listener: Arc<Inbound>,
    origin: Rc<Origin>,
    app: Rc<Upstream>,
    on_expiry: OnPeerExpiry,
}

/// Serves one connection from the first byte to the last.
pub async fn serve(worker: Rc<Worker>, name: Arc<str>, accepted: Accepted) {
    // Gone with a reload that came between the accept and now.
    let Some(listener) = worker.shared.current.load().plan.inbound(&name).cloned() else { return };
    let Accepted { socket, address, life } = accepted;
    let (started, version) = (Instant::now(), worker.version());
    let timeout = listener.settings.timeouts.handshake.get();
    // A handshake needs much room, and only for a moment.
    let handshake = Box::pin(handshake::inbound(socket, &listener.offers, timeout)).await;
    let Authenticated { stream, peer, alpn, .. } = match handshake {
        Ok(authenticated) => authenticated,
        Err(failure) => return handshake_failed(&worker, &listener, address, started, &failure),
    };
    // A session to be resumed is judged long before its handshake is over, and bundles may change meanwhile.
    if worker.version() != version {
        let bundles = Arc::clone(&worker.shared.current.load().identity.bundles);
        if let Err(error) = peer.still_trusted(&bundles, UnixTime::now()) {
            let failure = HandshakeFailure::from_x509(&error);
            return handshake_failed(&worker, &listener, address, started, &failure);
        }
    }
    worker.shared.note_client(&name, &address.to_string(), peer.id());
    let link = Link::new(worker, listener, address, peer);
    let stream = Stream::from(stream);
    match (alpn, link.protocol()) {
        (Some(Alpn::Svidecar | Alpn::Http2), _) => {
            multiplexed::serve(link, stream, life, alpn == Some(Alpn::Svidecar)).await;
        }
        (_, ListenerProtocol::Http) => serve_http(link, stream, life).await,
        (_, ListenerProtocol::Tcp) => serve_tcp(link, Opening::Open(stream), life).await,
    }
}

/// One line with both sides' facts, one record.
fn handshake_failed(
    worker: &Rc<Worker>,
    listener: &Arc<Inbound>,
    address: PeerAddress,
    started: Instant,
    failure: &HandshakeFailure,
) {
    let origin = Origin::inbound(&listener.name, &listener.policy, address.socket_address(), None);
    let mut record = record::Exchange::new(&worker.recorder, &origin);
    record.begin_connection(&origin, started);
    record.fail(failure.code, Some(failure.detail.clone()));
    record.finish();
    let presented = failure.presented.as_ref().map(SpiffeId::as_str);
    if failure.code == codes::PEER_CLOSED {
        debug!(listener = %listener.name, peer = %address, code = failure.code, error = %failure, "The handshake was not finished");
    } else if let Some(leave) = worker.shared.throttle.leave(Instant::now()) {
        warn!(
            listener = %listener.name,
            peer = %address,
            kept_back = leave.kept_back,
            sni = failure.sni,
            presented_id = presented,
            code = failure.code,
            error = %failure,
            "The TLS handshake with a peer failed"
        );
    }
}

/// A connection of HTTP/1.
async fn serve_http(link: Rc<Link>, stream: Stream, life: Life) {
    let (lifeline, exchange) = (link.lifeline(), link.exchange());
    let caller = Rc::new(InboundConnection::new(link, Some(life)));
    forward::http1::serve(caller, (stream, Buffer::new()), lifeline, exchange).await;
}

/// A TCP connection: decided once, connected to the app first, then bytes both ways.
async fn serve_tcp(link: Rc<Link>, opening: Opening, _life: Life) {
    let worker = &link.worker;
    // From before the decision, so that no change between it and the first byte is missed.
    let mut lifeline = link.lifeline();
    let (listener, origin, app) = link.now();
    let mut record = record::Exchange::new(&worker.recorder, &origin);
    record.begin_connection(&origin, Instant::now());
    let decision = decide::connection(&listener, &link.peer);
    record.decided(&decision);
    if !decision.is_allowed() {
        link.denied(&listener, decision.rule_name());
        record.fail(codes::DENIED_BY_RULE, None);
        return opening.deny();
    }
    let (to_app, facts) = match Box::pin(app.bytes(worker)).await {
        Ok(connected) => connected,
        Err(refusal) => {
            if let Some(Leave { kept_back }) = worker.shared.throttle.leave(Instant::now()) {
                warn!(listener = %listener.name, code = refusal.code, error = refusal.detail, kept_back, "Cannot reach the app; resetting the peer's connection");
            }
            record.fail(refusal.code, Some(refusal.detail.clone()));
            return opening.refuse(&refusal);
        }
    };
    note_upstream(&mut record, &facts);
    let mut tunnel = Tunnel::new(opening.accept(), to_app);
    let end = tunnel.run(|cx| lifeline.poll_over(cx, |event| link.judge_tcp(event)).map(Over::ending)).await;
    note_tunnel(&mut record, &tunnel, end);
}

impl Link {
    fn new(worker: Rc<Worker>, listener: Arc<Inbound>, address: PeerAddress, peer: Peer) -> Rc<Self> {
        // Of now: our first identity may have come while the peer waited for its handshake.
        let (version, snapshot) = (worker.version(), worker.shared.current.load_full());
        let rules = RefCell::new(Rules::new(&worker, (version, &snapshot), listener, address, &peer));
        let own_id = snapshot.identity.svid.as_ref().map(|svid| svid.id.clone());
        let peer_headers = RefCell::default();
        Rc::new(Self { worker, address, peer, own_id, rules, peer_headers })
    }

    /// What rules now: looked up again when there is another snapshot.
    fn rules(&self) -> Ref<'_, Rules> {
        let version = self.worker.version();
        if self.rules.borrow().version != version {
            let snapshot = self.worker.shared.current.load();
            let mut rules = self.rules.borrow_mut();
            // As it was when it is gone.
            let listener = snapshot.plan.inbound(&rules.listener.name).unwrap_or(&rules.listener).clone();
            *rules = Rules::new(&self.worker, (version, &snapshot), listener, self.address, &self.peer);
        }
        self.rules.borrow()
    }

    /// The listener, the beginning of its records, and the app.
    fn now(&self) -> (Arc<Inbound>, Rc<Origin>, Rc<Upstream>) {
        let rules = self.rules();
        (Arc::clone(&rules.listener), Rc::clone(&rules.origin), Rc::clone(&rules.app))
    }

    fn protocol(&self) -> ListenerProtocol {
        self.rules().listener.settings.protocol
    }

    /// Follows what may end a connection of this peer.
    fn lifeline(&self) -> Lifeline {
        let mut lifeline = self.worker.lifeline(Direction::Inbound);
        let not_after = self.peer.facts().not_after;
        let now = UnixTime::now();
        match self.rules().on_expiry {
            OnPeerExpiry::Drain => lifeline.expire_after(time_to_leave(not_after, now, rand::random())),
            // The last second of validity counts.
            OnPeerExpiry::Close => {
                lifeline.expire_after(time_to_leave(not_after, now, 0.0) + Duration::from_secs(1));
            }
            OnPeerExpiry::Ignore => {}
        }
        lifeline
    }

    /// For the requests of one connection.
    fn exchange(&self) -> Exchange {
        Exchange::new(&self.worker, &self.rules().origin)
    }

    /// The headers that tell the app who the peer is: made once per connection, and again when the settings change.
    fn peer_headers(&self, listener: &Inbound) -> Rc<PeerHeaders> {
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

    fn denied(&self, listener: &Inbound, rule: &str) {
        if let Some(leave) = self.worker.shared.throttle.leave(Instant::now()) {
            info!(
                listener = %listener.name,
                peer = %self.peer.id(),
                address = %self.address,
                rule,
                code = codes::DENIED_BY_RULE,
                kept_back = leave.kept_back,
                "A connection is denied by policy"
            );
        }
    }
}

impl Rules {
    fn new(
        worker: &Worker,
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
            app: worker.upstream(&listener.app),
            on_expiry: snapshot.plan.settings.on_peer_expiry,
            listener,
        }
    }
}
