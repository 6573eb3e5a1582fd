//! Whether a request or a connection may pass: a row of stages, each of which may say no.
//!
//! The row stands once, in [`Row::admit`], for requests and for TCP connections, from peers and from our workload. What
//! differs is which stages a listener has; one that it has not costs nothing.
//!
//! - [`normalize`]: the head gets the one form in which it is decided about and forwarded.
//! - [`authenticate`]: the peer still is who it proved to be, and the app is told so.
//! - [`decide`]: the policy. What it allowed is kept among the [`flights`], and decided again when the policy changes.
//! - external: whom the policy asks outside of this process. Nobody yet; it is awaited, and only where it is configured.
//! - [`limit`]: what the request may cost. Heads are counted before there is a request to admit; that its connection is one
//!   of the listener's is the last stage of the row, so that nobody spends those who may do nothing.
//!
//! Whoever forwards awaits the row, and learns only whether it passed: a new stage is a module here, a line in the row,
//! and a setting in the plan.

pub mod authenticate;
pub mod decide;
pub mod flights;
pub mod limit;
pub mod normalize;

use std::{cell::OnceCell, rc::Rc, sync::Arc};

use svidecar_config::proxy::OnPeerExpiry;
use svidecar_id::SpiffeId;
use svidecar_policy::Policy;
use svidecar_process::clock;
use tracing::info;

use self::{
    authenticate::{Authenticate, KnownPeer, Objection},
    decide::permit,
    flights::{Flights, InFlight, Loser},
    normalize::Form,
};
use crate::{
    io::address::PeerAddress,
    message::{Fields, RequestHead, hops, hops::Hop, refusal::Refusal},
    plan::{Inbound, Outbound},
    record::Recording,
    runtime::{budgets::Counted, standing::Standing, worker::Worker},
};

/// Who asks: what is at the other end of an accepted connection.
pub struct Party {
    /// The thread that the connection lives on.
    pub worker: Rc<Worker>,
    /// Where the other end is.
    pub address: PeerAddress,
    /// Who it is; `None` for our workload, which needs no SVID to reach us.
    pub peer: Option<KnownPeer>,
}

impl Party {
    /// The verified ID of the peer.
    #[must_use]
    pub fn id(&self) -> Option<&SpiffeId> {
        self.peer.as_ref().map(KnownPeer::id)
    }
}

/// What asks to pass.
pub enum Subject<'a> {
    /// A request.
    Request {
        /// Its head, which gets the form in which it is forwarded.
        head: &'a mut RequestHead,
        /// The requests of its connection.
        flights: &'a OnceCell<Rc<Flights>>,
        /// How that connection stands with its listener.
        standing: &'a Standing,
    },
    /// A TCP connection as a whole.
    Connection(&'a Standing),
}

/// What may pass.
pub struct Admission {
    /// It asks to switch protocols, and may.
    pub may_switch: bool,
    /// What the decision rested on, where one was made that may change while the request runs.
    pub flight: Option<InFlight>,
    /// Its place among the requests that run, where their number is limited.
    pub counted: Option<Counted>,
}

/// The stages of one listener.
pub struct Row {
    /// The listener's name.
    listener: Arc<str>,
    form: Form,
    peers: Option<Authenticate>,
    policy: Option<Arc<Policy>>,
    max_requests: Option<u32>,
}

impl Row {
    /// Of a listener for peers, for a connection that there may be something to object to.
    #[must_use]
    pub fn inbound(listener: &Inbound, on_expiry: OnPeerExpiry, objection: Option<Objection>) -> Self {
        Self {
            listener: Arc::clone(&listener.name),
            form: Form::Normal,
            peers: Some(Authenticate::new(on_expiry, &listener.headers).objecting(objection)),
            policy: Some(Arc::clone(&listener.policy)),
            max_requests: listener.settings.limits.max_requests,
        }
    }

    /// Of a listener for our workload.
    #[must_use]
    pub fn outbound(listener: &Outbound) -> Self {
        Self {
            listener: Arc::clone(&listener.name),
            form: Form::AsItCame,
            peers: None,
            policy: None,
            max_requests: listener.settings.limits.max_requests,
        }
    }

    /// What there is to object to the connection, whatever it asks for.
    #[must_use]
    pub fn objection(&self) -> Option<&Objection> {
        self.peers.as_ref().and_then(Authenticate::objection)
    }

    /// Whether the party may open something in which requests are to come, each of which will be asked about.
    ///
    /// # Errors
    /// When one end is not who it was in the handshake, or the peer has expired.
    pub fn may_open(&self, party: &Party) -> Result<(), Refusal> {
        match (&self.peers, &party.peer) {
            (Some(stage), Some(peer)) => stage.check(peer, clock::unix),
            _ => Ok(()),
        }
    }

    /// Says whether something may pass. Ready at once, unless a stage has to wait for somebody.
    ///
    /// # Errors
    /// The first "no". The record has it already; the answer is the caller's.
    pub async fn admit(
        &self,
        party: &Party,
        mut subject: Subject<'_>,
        record: &mut Recording,
    ) -> Result<Admission, Refusal> {
        let admitted = self.pass(party, &mut subject, record).await;
        if let Err(refusal) = &admitted {
            self.refused(party, &subject, refusal, record);
        }
        admitted
    }

    /// The row. Whoever has to be waited for is asked last: never about what the policy denies anyway.
    async fn pass(
        &self,
        party: &Party,
        subject: &mut Subject<'_>,
        record: &mut Recording,
    ) -> Result<Admission, Refusal> {
        let normalized = self.normalize(subject, record);
        // A peer that has expired hears of nothing else.
        self.authenticate(party, subject)?;
        let hop = normalized?;
        let flight = self.decide(party, subject, record)?;
        let (standing, is_request) = match subject {
            Subject::Request { standing, .. } => (*standing, true),
            Subject::Connection(standing) => (*standing, false),
        };
        limit::settle(standing)?;
        let most = self.max_requests.filter(|_| is_request);
        let counted = most.map(|most| limit::request(standing, most)).transpose()?;
        Ok(Admission { may_switch: hop.upgrade, flight, counted })
    }

    fn normalize(&self, subject: &mut Subject<'_>, record: &mut Recording) -> Result<Hop, Refusal> {
        let Subject::Request { head, .. } = subject else { return Ok(Hop::default()) };
        let formed = self.form.give(head);
        if self.form == Form::Normal {
            record.normalized(head);
        }
        formed.map(|()| hops::clean_request(head))
    }

    /// Before the policy looks: it sees what the app will see, and no header by which a peer poses as another.
    fn authenticate(&self, party: &Party, subject: &mut Subject<'_>) -> Result<(), Refusal> {
        let Some(stage) = &self.peers else { return Ok(()) };
        if let Some(peer) = &party.peer {
            stage.check(peer, clock::unix)?;
        }
        if let Subject::Request { head, .. } = subject {
            stage.introduce(party.peer.as_ref(), &mut head.fields);
        }
        Ok(())
    }

    fn decide(
        &self,
        party: &Party,
        subject: &Subject<'_>,
        record: &mut Recording,
    ) -> Result<Option<InFlight>, Refusal> {
        let Some(policy) = &self.policy else { return Ok(None) };
        let decision = match subject {
            Subject::Request { head, .. } => {
                decide::ask(policy, party.id(), record.summary(), Some(&head.fields))
            }
            Subject::Connection(_) => decide::connection(policy, party.id()),
        };
        record.decided(&decision);
        permit(&decision)?;
        let Subject::Request { head, flights, .. } = subject else { return Ok(None) };
        let flights = flights.get_or_init(Rc::default);
        Ok(Some(flights.take_off(policy, record.summary(), &head.fields)))
    }

    /// What a "no" leaves behind, whichever stage says it: its code and its words in the record, beside what the policy
    /// said, and so in the access log and the metrics.
    fn refused(&self, party: &Party, subject: &Subject<'_>, refusal: &Refusal, record: &mut Recording) {
        record.fail(refusal.code, Some(refusal.detail.clone()));
        // Of a request the access log tells enough; more lines are what a peer could fill a disk with.
        let Subject::Connection(_) = subject else { return };
        if let Some(leave) = party.worker.shared.throttle.leave(clock::monotonic()) {
            info!(
                listener = %self.listener,
                peer = party.id().map(display),
                address = %party.address,
                rule = record.rule(),
                code = refusal.code.name(),
                error = refusal.detail,
                kept_back = leave.kept_back,
                "A connection is refused"
            );
        }
    }
}

/// What the row said before, asked again.
impl Row {
    /// Whether the policy still allows a TCP connection of that party.
    #[must_use]
    pub fn still_allows(&self, party: &Party) -> bool {
        self.policy.as_ref().is_none_or(|policy| decide::connection(policy, party.id()).is_allowed())
    }

    /// Decides again about the requests of a connection, as [`Flights::decide_again`] does.
    #[must_use]
    pub fn decide_again(&self, party: &Party, flights: &Flights) -> (Vec<Loser>, bool) {
        let again = |policy: &Arc<Policy>| flights.decide_again(policy, party.id());
        self.policy.as_ref().map(again).unwrap_or_default()
    }

    /// Takes out of a request's trailers what its head must not say either.
    pub fn clean_trailers(&self, trailers: &mut Fields) {
        hops::clean_trailers(trailers);
        if let Some(stage) = &self.peers {
            stage.clean(trailers);
        }
    }
}

#[cfg(test)]
mod tests;
