//! A peer as the caller of requests: decided by policy, with the headers that tell the app who it is; and what an event
//! means for its connections.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::StatusCode;
use rustls_pki_types::UnixTime;
use svidecar_config::proxy::OnPeerExpiry;
use tracing::{debug, info, warn};

use super::Link;
use crate::{
    admit::{
        decide,
        flights::{Flights, Loser},
        normalize::normalize,
    },
    codes,
    forward::{
        caller::{Admission, Caller, Timeouts},
        exchange::Exchange,
    },
    http1::Limits,
    message::{Fields, hops, refusal::Refusal},
    plan::snapshot::Snapshot,
    runtime::{
        accept::Life,
        connections::{Ending, Event, Fate, LOSER_GRACE},
        worker::Worker,
    },
    upstream::facts::ConnectionFacts,
};

/// A connection of HTTP from a peer: an mTLS connection of its own, or one inside of a shared one.
pub struct InboundConnection {
    link: Rc<Link>,
    /// What it is doing, for when the policy changes.
    flights: Rc<Flights>,
    /// When it is a connection inside of another, or the only one.
    _life: Option<Life>,
}

impl InboundConnection {
    pub(super) fn new(link: Rc<Link>, life: Option<Life>) -> Self {
        Self { link, flights: Rc::default(), _life: life }
    }

    /// Ends the requests that lose, after a grace in which they may finish.
    fn kill_later(&self, losers: Vec<Loser>) {
        let link = &self.link;
        debug!(peer = %link.peer.id(), requests = losers.len(), "Running requests are no longer allowed");
        link.worker.spawn(async move {
            tokio::time::sleep(LOSER_GRACE).await;
            losers.iter().for_each(Loser::kill);
        });
    }
}

impl Caller for InboundConnection {
    fn worker(&self) -> &Rc<Worker> {
        &self.link.worker
    }

    fn limits(&self) -> Limits {
        let limits = &self.link.rules().listener.settings.limits;
        Limits { bytes: limits.max_header_bytes.as_usize(), fields: usize::from(limits.max_headers) }
    }

    fn timeouts(&self) -> Timeouts {
        let timeouts = &self.link.rules().listener.settings.timeouts;
        Timeouts { head: timeouts.request_headers.get(), idle: timeouts.idle.get() }
    }

    fn begin(&self, exchange: &mut Exchange) {
        exchange.begin(&self.link.rules().origin);
    }

    fn admit(&self, exchange: &mut Exchange) -> Result<Admission, Refusal> {
        let (rules, peer) = (self.link.rules(), &self.link.peer);
        let listener = &rules.listener;
        let normalized = normalize(&mut exchange.request);
        exchange.record.normalized(&exchange.request);
        if rules.on_expiry != OnPeerExpiry::Ignore && peer.is_expired(UnixTime::now()) {
            let detail = format!("the SVID of {} has expired since it connected", peer.id());
            return Err(Refusal::new(StatusCode::FORBIDDEN, codes::PEER_EXPIRED, detail).closing());
        }
        normalized?;
        // Before the policy looks: it sees what the app will see, and no header by which a peer poses as another.
        let hop = hops::clean_request(&mut exchange.request);
        let headers = self.link.peer_headers(listener);
        listener.headers.rewrite(&mut exchange.request.fields, Some(&headers));
        let fields = &exchange.request.fields;
        let decision = decide::ask(&listener.policy, peer.id(), exchange.record.summary(), Some(fields));
        exchange.record.decided(&decision);
        if !decision.is_allowed() {
            let detail = format!("`{}` denies it", decision.rule_name());
            return Err(Refusal::new(StatusCode::FORBIDDEN, codes::DENIED_BY_RULE, detail));
        }
        let fields = &exchange.request.fields;
        let flight = self.flights.take_off(&listener.policy, exchange.record.summary(), fields);
        exchange.takes_off(flight);
        Ok(Admission { upstream: Rc::clone(&rules.app), may_switch: hop.upgrade })
    }

    fn clean_trailers(&self, trailers: &mut Fields) {
        // Identity headers have no place in trailers either.
        self.link.rules().listener.headers.clean(trailers);
    }

    fn judge(&self, event: Event, _: Option<&ConnectionFacts>) -> Fate {
        self.link.judge(event, || {
            let rules = self.link.rules();
            let (losers, loses) = self.flights.decide_again(&rules.listener.policy, self.link.peer.id());
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

impl Link {
    /// What an event means for a TCP connection of this peer.
    pub(super) fn judge_tcp(&self, event: Event) -> Fate {
        self.judge(event, || {
            let rules = self.rules();
            if decide::connection(&rules.listener, &self.peer).is_allowed() {
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
                code = error.code(),
                error = %error,
                kept_back = leave.kept_back,
                "A live connection's peer would not be accepted any more; closing it"
            );
        }
        true
    }
}
