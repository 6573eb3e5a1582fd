//! The way of an inbound connection: handshake, peer, and then request by request (HTTP) or as a whole (TCP):
//! decide, forward, record.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use http::Request;
use hyper::body::Incoming;
use rustls_pki_types::UnixTime;
use svidecar_config::proxy::{ListenerProtocol, OnPeerExpiry};
use svidecar_id::SpiffeId;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use crate::{
    accept::{Accepted, Life},
    codes,
    connections::{Event, LOSER_GRACE, Lifeline, time_to_leave},
    decide::{self, Flight},
    drain::Direction,
    forward::{
        self,
        exchange::{Exchange, Moment, Via},
        http::End,
        tcp::{Transferred, TunnelEnd, tunnel},
    },
    handshake::{self, HandshakeFailure},
    headers::{IdentityHeaders, PeerFacts, PeerHeaders},
    net::{PeerAddress, Stream},
    peer::Peer,
    plan::Inbound,
    snapshot::Snapshot,
    upstream::dial::DialledStream,
    workers::Worker,
};

/// A connection whose peer is verified.
pub struct InboundConnection {
    /// The thread it lives on.
    pub worker: Arc<Worker>,
    /// The listener, as it was when the connection came. Each request uses the one of its own moment.
    pub listener: Arc<Inbound>,
    /// Where the peer is.
    pub address: PeerAddress,
    /// Who the peer is.
    pub peer: Arc<Peer>,
    /// Our own ID when the connection came.
    own_id: Option<SpiffeId>,
    /// What the app is told of the peer, and by which settings.
    peer_headers: Mutex<Option<(Arc<IdentityHeaders>, Arc<PeerHeaders>)>>,
    /// The server name that the peer asked for.
    pub sni: Option<String>,
    /// What it is doing, for when the policy changes.
    pub flights: Mutex<Flights>,
    _life: Life,
}

/// The requests that a connection's fate depends on.
#[derive(Default)]
pub struct Flights {
    /// Running now.
    running: Vec<Arc<Flight>>,
    /// The last that was allowed: what an idle connection is judged by.
    last: Option<Arc<Flight>>,
}

/// Serves one connection from the first byte to the last.
pub async fn serve(worker: Arc<Worker>, name: Arc<str>, accepted: Accepted) {
    let snapshot = worker.shared.current.load_full();
    // Gone with a reload that came between the accept and now.
    let Some(listener) = snapshot.plan.inbound(&name).cloned() else { return };
    let Accepted { stream, address, life } = accepted;
    let started = Moment::now();
    let timeout = listener.settings.timeouts.handshake.get();
    let tls = match handshake::accept(stream, Arc::clone(&listener.tls), timeout).await {
        Ok(tls) => tls,
        Err(failure) => return handshake_failed(&worker, &listener, address, started, &failure),
    };
    worker.shared.note_client(&name, &address.to_string(), tls.peer.id());
    let connection = Arc::new(InboundConnection {
        own_id: snapshot.identity.svid.as_ref().map(|svid| svid.id.clone()),
        peer_headers: Mutex::default(),
        peer: Arc::new(tls.peer),
        sni: tls.sni,
        flights: Mutex::default(),
        worker,
        listener,
        address,
        _life: life,
    });
    drop(snapshot);
    match connection.listener.settings.protocol {
        ListenerProtocol::Http => serve_http(connection, tls.stream, tls.http2).await,
        ListenerProtocol::Tcp => serve_tcp(connection, tls.stream).await,
    }
}

/// One line with both sides' facts, one record.
fn handshake_failed(
    worker: &Arc<Worker>,
    listener: &Arc<Inbound>,
    address: PeerAddress,
    started: Moment,
    failure: &HandshakeFailure,
) {
    Exchange::of_connection(worker, Via::Inbound(Arc::clone(listener)), address)
        .since(started)
        .handshake_failed(failure);
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

async fn serve_http(connection: Arc<InboundConnection>, stream: TlsStream<Stream>, http2: bool) {
    let mut lifeline = connection.lifeline();
    let end = forward::http::serve_inbound(&connection, stream, http2, &mut lifeline).await;
    if let End::Failed(error) = end {
        debug!(listener = %connection.listener.name, peer = %connection.address, error, "An inbound connection failed");
    }
}

/// A TCP connection: decided once, connected to the app first, then bytes both ways.
async fn serve_tcp(connection: Arc<InboundConnection>, stream: TlsStream<Stream>) {
    let InboundConnection { worker, listener, peer, address, .. } = &*connection;
    let mut exchange = Exchange::of_connection(worker, Via::Inbound(Arc::clone(listener)), *address);
    exchange.peer(peer.id());
    let decision = decide::connection(listener, peer);
    exchange.decided(&decision);
    if !decision.is_allowed() {
        if let Some(leave) = worker.shared.throttle.leave(Instant::now()) {
            info!(
                listener = %listener.name,
                peer = %peer.id(),
                address = %address,
                rule = decision.rule_name(),
                code = codes::DENIED_BY_RULE,
                kept_back = leave.kept_back,
                "A connection is denied by policy"
            );
        }
        exchange.ended(Some(codes::DENIED_BY_RULE));
        return;
    }
    let app = worker.upstream(&listener.app);
    let dialled = match app.dial(worker).await {
        Ok(dialled) => dialled,
        Err(refusal) => {
            warn!(listener = %listener.name, code = refusal.code, error = refusal.detail, "Cannot reach the app; resetting the peer's connection");
            exchange.ended(Some(refusal.code));
            stream.get_ref().0.reset_on_close();
            return;
        }
    };
    exchange.upstream(&dialled.facts);
    let DialledStream::Plain(to_app) = dialled.stream else { return };
    let transferred = Arc::new(Transferred::default());
    let mut lifeline = connection.lifeline();
    let end =
        tunnel(stream, to_app, &transferred, &mut lifeline, |event| connection.on_event(event, None)).await;
    exchange
        .transferred(transferred.received.load(Ordering::Relaxed), transferred.sent.load(Ordering::Relaxed));
    exchange.ended(end.code());
}

impl InboundConnection {
    /// Follows what may end this connection.
    #[must_use]
    pub fn lifeline(&self) -> Lifeline {
        let mut lifeline = self.worker.shared.lifeline(Direction::Inbound);
        let snapshot = self.worker.shared.current.load();
        let not_after = self.peer.facts().not_after;
        let now = UnixTime::now();
        match snapshot.plan.settings.on_peer_expiry {
            OnPeerExpiry::Drain => lifeline.expire_after(time_to_leave(not_after, now, rand::random())),
            // The last second of validity counts.
            OnPeerExpiry::Close => {
                lifeline.expire_after(time_to_leave(not_after, now, 0.0) + Duration::from_secs(1));
            }
            OnPeerExpiry::Ignore => {}
        }
        lifeline
    }

    /// The listener as the snapshot has it; as it was when it is gone.
    #[must_use]
    pub fn listener_now(&self, snapshot: &Snapshot) -> Arc<Inbound> {
        snapshot.plan.inbound(&self.listener.name).unwrap_or(&self.listener).clone()
    }

    /// The headers that tell the app who the peer is: made once per connection, and again when the settings change.
    #[must_use]
    pub fn peer_headers(&self, listener: &Inbound) -> Arc<PeerHeaders> {
        let mut cached = self.peer_headers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((by, headers)) = &*cached
            && Arc::ptr_eq(by, &listener.headers)
        {
            return Arc::clone(headers);
        }
        let facts = PeerFacts { id: self.peer.id(), own_id: self.own_id.as_ref(), chain: self.peer.chain() };
        let made = Arc::new(listener.headers.of_peer(&facts));
        *cached = Some((Arc::clone(&listener.headers), Arc::clone(&made)));
        made
    }

    /// What an event means for a tunnel of this connection: nothing, or why it ends and how soon.
    pub fn on_event(&self, event: Event, flight: Option<&Flight>) -> Option<(TunnelEnd, Duration)> {
        match event {
            Event::Changed => {
                let snapshot = self.worker.shared.current.load();
                if snapshot.plan.inbound(&self.listener.name).is_none() {
                    // A listener that the settings no longer have takes its connections along.
                    return Some((TunnelEnd::Drained, snapshot.plan.settings.drain_timeout.get()));
                }
                let loses = self.distrusted(&snapshot) || {
                    let listener = self.listener_now(&snapshot);
                    match flight {
                        Some(flight) => !flight.is_still_allowed(&listener, &self.peer),
                        None => !decide::connection(&listener, &self.peer).is_allowed(),
                    }
                };
                loses.then(|| {
                    info!(listener = %self.listener.name, peer = %self.peer.id(), "A live connection is no longer allowed; closing it");
                    (TunnelEnd::NoLongerAllowed, LOSER_GRACE)
                })
            }
            Event::PeerExpired => {
                let grace = self.worker.shared.current.load().plan.expiry_grace();
                grace.map(|grace| (TunnelEnd::PeerExpired, grace))
            }
            // A tunnel has no good moment to end: it gets the whole drain timeout, then it is forced.
            Event::Draining | Event::TimeIsUp => None,
        }
    }

    /// Whether the peer's chain would not be accepted any more, because a bundle changed.
    #[must_use]
    pub fn distrusted(&self, snapshot: &Snapshot) -> bool {
        match self.peer.still_trusted(&snapshot.identity.bundles, UnixTime::now()) {
            Ok(()) => false,
            Err(error) => {
                warn!(
                    listener = %self.listener.name,
                    peer = %self.peer.id(),
                    address = %self.address,
                    code = error.code(),
                    error = %error,
                    "A live connection's peer would not be accepted any more; closing it"
                );
                true
            }
        }
    }

    /// Remembers a request that was allowed, until its guard goes.
    pub fn take_off(self: &Arc<Self>, flight: Flight) -> FlightGuard {
        let flight = Arc::new(flight);
        let mut flights = self.lock();
        flights.last = Some(Arc::clone(&flight));
        flights.running.push(Arc::clone(&flight));
        FlightGuard { connection: Arc::clone(self), flight }
    }

    /// Decides again about everything on this connection. Returns the running requests that lose, and whether the
    /// connection itself does.
    #[must_use]
    pub fn decide_again(&self, snapshot: &Snapshot) -> (Vec<Arc<Flight>>, bool) {
        let listener = self.listener_now(snapshot);
        let (running, last) = {
            let flights = self.lock();
            (flights.running.clone(), flights.last.clone())
        };
        let loses = |flight: &Arc<Flight>| !flight.is_still_allowed(&listener, &self.peer);
        let idle_loses = running.is_empty() && last.as_ref().is_some_and(loses);
        let losers: Vec<_> = running.into_iter().filter(loses).collect();
        let connection_loses = idle_loses || !losers.is_empty();
        (losers, connection_loses)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a running request when its response has ended.
pub struct FlightGuard {
    connection: Arc<InboundConnection>,
    flight: Arc<Flight>,
}

impl FlightGuard {
    /// The request.
    #[must_use]
    pub const fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.connection.lock().running.retain(|flight| !Arc::ptr_eq(flight, &self.flight));
    }
}

/// A request's record, begun with what its connection knows.
#[must_use]
pub fn begin_exchange(
    connection: &InboundConnection,
    listener: &Arc<Inbound>,
    request: &Request<Incoming>,
) -> Exchange {
    let via = Via::Inbound(Arc::clone(listener));
    let peer = Some(connection.peer.id());
    Exchange::of_request(&connection.worker, via, connection.address, peer, request)
}
