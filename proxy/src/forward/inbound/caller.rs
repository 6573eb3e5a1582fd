//! A peer as the caller of requests: decided by policy, with the headers that tell the app who it is; and what an event
//! means for its connections.

use std::rc::Rc;

use rustls_pki_types::UnixTime;
use svidecar_code::Code;
use svidecar_config::proxy::OnPeerExpiry;
use tracing::debug;

use super::connection::PeerConnection;
use crate::{
    admit::{
        decide,
        flights::{Flights, Loser},
        normalize::normalize,
    },
    forward::{
        self,
        caller::{Admission, Caller, Timeouts},
        exchange::Exchange,
    },
    http1::Limits,
    io::{Buffer, Transport},
    message::{Fields, hops, refusal::Refusal},
    runtime::{
        connections::{Ending, Event, Fate, LOSER_GRACE},
        life::Life,
        worker::Worker,
    },
    upstream::facts::ConnectionFacts,
};

/// A connection of HTTP from a peer: an mTLS connection of its own, or one inside of a shared one.
pub struct InboundCaller {
    connection: Rc<PeerConnection>,
    /// What it is doing, for when the policy changes.
    flights: Rc<Flights>,
    /// When it is a connection inside of another, or the only one.
    _life: Option<Life>,
}

impl InboundCaller {
    pub(super) fn new(connection: Rc<PeerConnection>, life: Option<Life>) -> Self {
        Self { connection, flights: Rc::default(), _life: life }
    }

    /// Ends the requests that lose, after a grace in which they may finish.
    fn kill_later(&self, losers: Vec<Loser>) {
        let connection = &self.connection;
        debug!(peer = %connection.peer.id(), requests = losers.len(), "Running requests are no longer allowed");
        connection.worker.spawn(async move {
            tokio::time::sleep(LOSER_GRACE).await;
            losers.iter().for_each(Loser::kill);
        });
    }
}

/// Serves a connection of HTTP/1.
pub(super) async fn serve(connection: Rc<PeerConnection>, stream: Transport, life: Life) {
    let (follower, exchange) = (connection.follower(), connection.exchange());
    let caller = Rc::new(InboundCaller::new(connection, Some(life)));
    forward::http1::serve(caller, (stream, Buffer::new()), follower, exchange).await;
}

impl Caller for InboundCaller {
    fn worker(&self) -> &Rc<Worker> {
        &self.connection.worker
    }

    fn limits(&self) -> Limits {
        let limits = &self.connection.rules().listener.settings.limits;
        Limits { bytes: limits.max_header_bytes.as_usize(), fields: usize::from(limits.max_headers) }
    }

    fn timeouts(&self) -> Timeouts {
        let timeouts = &self.connection.rules().listener.settings.timeouts;
        Timeouts { head: timeouts.request_headers.get(), idle: timeouts.idle.get() }
    }

    fn begin(&self, exchange: &mut Exchange) {
        exchange.begin(&self.connection.rules().origin);
    }

    fn admit(&self, exchange: &mut Exchange) -> Result<Admission, Refusal> {
        let (rules, peer) = (self.connection.rules(), &self.connection.peer);
        let listener = &rules.listener;
        let normalized = normalize(&mut exchange.request);
        exchange.record.normalized(&exchange.request);
        if rules.on_expiry != OnPeerExpiry::Ignore && peer.is_expired(UnixTime::now()) {
            let detail = format!("the SVID of {} has expired since it connected", peer.id());
            return Err(Refusal::new(Code::PeerExpired, detail).closing());
        }
        normalized?;
        // Before the policy looks: it sees what the app will see, and no header by which a peer poses as another.
        let hop = hops::clean_request(&mut exchange.request);
        let headers = self.connection.peer_headers(listener);
        listener.headers.rewrite(&mut exchange.request.fields, Some(&headers));
        let fields = &exchange.request.fields;
        let decision = decide::ask(&listener.policy, peer.id(), exchange.record.summary(), Some(fields));
        exchange.record.decided(&decision);
        if !decision.is_allowed() {
            let detail = format!("`{}` denies it", decision.rule_name());
            return Err(Refusal::new(Code::DeniedByRule, detail));
        }
        let fields = &exchange.request.fields;
        let flight = self.flights.take_off(&listener.policy, exchange.record.summary(), fields);
        exchange.takes_off(flight);
        Ok(Admission { upstream: Rc::clone(&rules.app), may_switch: hop.upgrade })
    }

    fn clean_trailers(&self, trailers: &mut Fields) {
        // Identity headers have no place in trailers either.
        self.connection.rules().listener.headers.clean(trailers);
    }

    fn judge(&self, event: Event, _: Option<&ConnectionFacts>) -> Fate {
        self.connection.judge(event, || {
            let rules = self.connection.rules();
            let (losers, loses) =
                self.flights.decide_again(&rules.listener.policy, self.connection.peer.id());
            if !losers.is_empty() {
                self.kill_later(losers);
            }
            // The requests that are still allowed finish; only the losers are cut.
            if loses { Fate::Finishes(Ending::NoLongerAllowed, None) } else { Fate::GoesOn }
        })
    }

    fn refused(&self, _: &Refusal) {
        // The access log has it, with the rule; more lines are what a peer could fill a disk with.
    }
}
