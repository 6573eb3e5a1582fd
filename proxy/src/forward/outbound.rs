//! The way of an outbound connection: our workload connects in plain text, we pick the upstream's endpoint, check the
//! server's ID in the handshake, forward, record.

use std::{
    cell::{Ref, RefCell},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use svidecar_code::Code;
use svidecar_config::proxy::ListenerProtocol;
use tracing::warn;

use crate::{
    forward::{
        self,
        caller::{Admission, Caller, Timeouts},
        exchange::{Exchange, note_relay, note_upstream},
        relay::Relay,
    },
    http1::Limits,
    io::{ByteStream, Transport, address::PeerAddress},
    message::{Fields, hops, refusal::Refusal},
    plan::Outbound,
    record::{self, Origin},
    runtime::{
        connections::{Ending, Event, Fate, LOSER_GRACE, Over},
        drain::Direction,
        life::{Accepted, Life},
        throttle::Leave,
        worker::Worker,
    },
    upstream::{Upstream, facts::ConnectionFacts, upstreams::Upstreams},
};

/// A connection of our workload.
pub struct OutboundCaller {
    /// The thread it lives on.
    worker: Rc<Worker>,
    upstreams: Rc<Upstreams>,
    /// Where the workload connects from.
    address: PeerAddress,
    rules: RefCell<Rules>,
    _life: Life,
}

/// What rules the requests of a connection: the part of a snapshot that concerns it.
struct Rules {
    version: u64,
    listener: Arc<Outbound>,
    origin: Rc<Origin>,
    upstream: Rc<Upstream>,
}

/// Serves one connection from the first byte to the last.
pub async fn serve(worker: Rc<Worker>, upstreams: Rc<Upstreams>, name: Arc<str>, accepted: Accepted) {
    let version = worker.version();
    // Gone with a reload that came between the accept and now.
    let Some(listener) = worker.shared.current.load().plan.outbound(&name).cloned() else { return };
    let Accepted { socket, address, life } = accepted;
    let protocol = listener.settings.protocol;
    let rules = RefCell::new(Rules::new(&worker, &upstreams, version, listener, address));
    let connection = Rc::new(OutboundCaller { worker, upstreams, address, rules, _life: life });
    let stream = Transport::from(socket);
    match protocol {
        ListenerProtocol::Http => serve_http(connection, stream).await,
        ListenerProtocol::Tcp => serve_tcp(connection, stream).await,
    }
}

async fn serve_http(connection: Rc<OutboundCaller>, stream: Transport) {
    let follower = connection.worker.follower(Direction::Outbound);
    let this = Rc::clone(&connection);
    let fresh = move || Exchange::new(&this.worker, &this.rules().origin);
    forward::either::serve(connection, stream, follower, fresh).await;
}

/// A TCP connection: the server's ID is checked before a byte of the workload leaves.
async fn serve_tcp(connection: Rc<OutboundCaller>, mut stream: Transport) {
    let worker = &connection.worker;
    // From before the handshake with the server, so that no change since then is missed.
    let mut follower = worker.follower(Direction::Outbound);
    let (origin, upstream) = connection.now();
    let mut record = record::Recording::new(&worker.recorder, &origin);
    record.begin_connection(&origin, Instant::now());
    let (to_server, facts) = match Box::pin(upstream.bytes(worker)).await {
        Ok(connected) => connected,
        Err(refusal) => {
            if let Some(Leave { kept_back }) = worker.shared.throttle.leave(Instant::now()) {
                warn!(listener = %upstream.spec().name, code = refusal.code.name(), error = refusal.detail, kept_back, "Cannot reach the upstream; resetting the workload's connection");
            }
            record.fail(refusal.code, Some(refusal.detail));
            return stream.reset();
        }
    };
    note_upstream(&mut record, &facts);
    if let Some(left) = facts.time_left() {
        follower.expire_after(left);
    }
    let mut relay = Relay::new(stream, to_server);
    let judge = |event| connection.judge(event, Some(&facts));
    let end = relay.run(|cx| follower.poll_over(cx, judge).map(Over::ending)).await;
    note_relay(&mut record, &relay, end);
}

impl OutboundCaller {
    /// What rules now: looked up again when there is another snapshot.
    fn rules(&self) -> Ref<'_, Rules> {
        let version = self.worker.version();
        if self.rules.borrow().version != version {
            let snapshot = self.worker.shared.current.load();
            let mut rules = self.rules.borrow_mut();
            // As it was when it is gone.
            let listener = snapshot.plan.outbound(&rules.listener.name).unwrap_or(&rules.listener).clone();
            *rules = Rules::new(&self.worker, &self.upstreams, version, listener, self.address);
        }
        self.rules.borrow()
    }

    /// The beginning of its records, and where it leads.
    fn now(&self) -> (Rc<Origin>, Rc<Upstream>) {
        let rules = self.rules();
        (Rc::clone(&rules.origin), Rc::clone(&rules.upstream))
    }
}

impl Caller for OutboundCaller {
    fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    fn limits(&self) -> Limits {
        let limits = &self.rules().listener.settings.limits;
        Limits { bytes: limits.max_header_bytes.as_usize(), fields: usize::from(limits.max_headers) }
    }

    fn timeouts(&self) -> Timeouts {
        let timeouts = &self.rules().listener.settings.timeouts;
        Timeouts { head: timeouts.request_headers.get(), idle: timeouts.idle.get() }
    }

    fn begin(&self, exchange: &mut Exchange) {
        exchange.begin(&self.rules().origin);
    }

    fn admit(&self, exchange: &mut Exchange) -> Result<Admission, Refusal> {
        if exchange.request.method == "CONNECT" {
            let detail = "CONNECT is not served; each outbound listener leads to one upstream";
            return Err(Refusal::new(Code::MethodNotAllowed, detail));
        }
        let hop = hops::clean_request(&mut exchange.request);
        Ok(Admission { upstream: Rc::clone(&self.rules().upstream), may_switch: hop.upgrade })
    }

    fn clean_trailers(&self, _: &mut Fields) {}

    fn judge(&self, event: Event, upstream: Option<&ConnectionFacts>) -> Fate {
        let plan = &self.worker.shared.current.load().plan;
        match event {
            Event::Draining => Fate::Finishes(Ending::Drained, None),
            Event::Changed if plan.outbound(&self.rules().listener.name).is_none() => {
                // A listener that the settings no longer have takes its connections along.
                Fate::Finishes(Ending::Drained, Some(plan.settings.drain_timeout.get()))
            }
            Event::Changed => match upstream.and_then(|facts| facts.objection(&self.worker)) {
                Some(_) => Fate::Finishes(Ending::NoLongerAllowed, Some(LOSER_GRACE)),
                None => Fate::GoesOn,
            },
            Event::PeerExpired => plan
                .expiry_grace()
                .map_or(Fate::GoesOn, |grace| Fate::Finishes(Ending::PeerExpired, Some(grace))),
        }
    }

    fn refused(&self, refusal: &Refusal) {
        if let Some(leave) = self.worker.shared.throttle.leave(Instant::now()) {
            warn!(
                listener = %self.rules().listener.name,
                code = refusal.code.name(),
                error = refusal.detail,
                kept_back = leave.kept_back,
                "A request of the workload failed"
            );
        }
    }
}

impl Rules {
    /// The version was read before the snapshot: at worst the rules are looked up once more.
    fn new(
        worker: &Worker,
        upstreams: &Upstreams,
        version: u64,
        listener: Arc<Outbound>,
        address: PeerAddress,
    ) -> Self {
        Self {
            version,
            origin: Origin::outbound(&listener.name, address.socket_address()),
            upstream: upstreams.of(worker, &listener.upstream),
            listener,
        }
    }
}
