//! Everything about one request or connection that its record needs, gathered on the way and recorded exactly once.
//!
//! One value serves all requests of a connection, one after the other, so that its memory is used again. It holds copies:
//! the heads, the policy and the connections that they came from may be gone when the record is written.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use svidecar_code::Code;
use svidecar_id::SpiffeId;
use svidecar_policy::{Decision, MAX_AUDITED, Policy, Verdict};
use svidecar_process::{clock, throttle::Leave};

use super::{Direction, HttpFacts, Record, Recorder, Ruling, line};
use crate::message::{Fields, RequestHead, ResponseHead, Summary, Version, refusal::Refusal};

/// What the records of one connection have in common. Made once per connection, and again when its listener changes.
pub struct Origin {
    direction: Direction,
    listener: Arc<str>,
    /// Decides about requests; an inbound listener's.
    policy: Option<Arc<Policy>>,
    client: Option<SocketAddr>,
    peer: Option<SpiffeId>,
    preamble: RefCell<Preamble>,
}

/// What all lines of a connection begin with, as it was written last.
#[derive(Default)]
struct Preamble {
    /// Who answered; another server makes another preamble.
    server: Option<SpiffeId>,
    text: Vec<u8>,
}

impl Origin {
    /// A connection of a peer, whose ID is known once the handshake is done.
    #[must_use]
    pub fn inbound(
        listener: &Arc<str>,
        policy: &Arc<Policy>,
        client: Option<SocketAddr>,
        peer: Option<&SpiffeId>,
    ) -> Rc<Self> {
        Rc::new(Self {
            direction: Direction::Inbound,
            listener: Arc::clone(listener),
            policy: Some(Arc::clone(policy)),
            client,
            peer: peer.cloned(),
            preamble: RefCell::default(),
        })
    }

    /// A connection of our workload.
    #[must_use]
    pub fn outbound(listener: &Arc<str>, client: Option<SocketAddr>) -> Rc<Self> {
        Rc::new(Self {
            direction: Direction::Outbound,
            listener: Arc::clone(listener),
            policy: None,
            client,
            peer: None,
            preamble: RefCell::default(),
        })
    }

    fn service(&self) -> &str {
        self.policy.as_ref().map_or(&self.listener, |policy| policy.service())
    }
}

/// One request with its response, or one connection that carried no requests. Dropped while it runs, it is recorded as
/// one whose client has gone away.
pub struct Recording {
    recorder: Rc<Recorder>,
    origin: Rc<Origin>,
    started: Instant,
    http: Option<Http>,
    summary: Summary,
    /// The verified ID of the server that an upstream connection leads to.
    server: Option<SpiffeId>,
    upstream: String,
    decided: Option<Decided>,
    received: u64,
    sent: u64,
    outcome: Outcome,
}

/// What is kept of a request and its response beside the [`Summary`].
#[derive(Clone, Copy)]
struct Http {
    version: Version,
    status: Option<u16>,
    grpc_status: Option<u32>,
}

/// A decision, by the places of its rules in its policy.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    verdict: Verdict,
    rule: Option<usize>,
    otherwise: &'static str,
    audited: [Option<usize>; MAX_AUDITED],
}

enum Outcome {
    /// Nothing to record.
    Idle,
    /// Dropped in this state, the client has gone away.
    Running,
    Completed,
    Failed {
        code: Code,
        detail: Option<String>,
    },
}

impl Recording {
    /// Nothing yet.
    #[must_use]
    pub fn new(recorder: &Rc<Recorder>, origin: &Rc<Origin>) -> Self {
        Self {
            recorder: Rc::clone(recorder),
            origin: Rc::clone(origin),
            started: clock::monotonic(),
            http: None,
            summary: Summary::default(),
            server: None,
            upstream: String::new(),
            decided: None,
            received: 0,
            sent: 0,
            outcome: Outcome::Idle,
        }
    }

    /// Begins the exchange of a request, whose head came at `started`. One that still runs is recorded first.
    pub fn begin_request(&mut self, origin: &Rc<Origin>, started: Instant, head: &RequestHead) {
        self.begin(origin, started);
        self.http = Some(Http { version: head.version, status: None, grpc_status: None });
        self.summary.set(head);
    }

    /// Begins the exchange of a connection that carries no requests. One that still runs is recorded first.
    pub fn begin_connection(&mut self, origin: &Rc<Origin>, started: Instant) {
        self.begin(origin, started);
        self.http = None;
    }

    fn begin(&mut self, origin: &Rc<Origin>, started: Instant) {
        self.finish();
        if !Rc::ptr_eq(&self.origin, origin) {
            self.origin = Rc::clone(origin);
        }
        self.started = started;
        self.outcome = Outcome::Running;
    }

    /// Method, host and path, as they were told last.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The head in the form in which it is decided about and forwarded.
    pub fn normalized(&mut self, head: &RequestHead) {
        self.summary.set(head);
    }

    /// What the policy of the [`Origin`] said.
    pub fn decided(&mut self, decision: &Decision<'_>) {
        self.decided = Some(Decided::of(decision));
    }

    /// The name of the rule by which the policy decided, as the record tells it.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        let (decided, policy) = self.decided.as_ref().zip(self.origin.policy.as_deref())?;
        Some(decided.ruling(policy).rule)
    }

    /// The upstream that it was forwarded to: the address that was dialled, and who answered.
    pub fn forwarded_to(&mut self, address: &str, server: Option<&SpiffeId>) {
        self.upstream.clear();
        self.upstream.push_str(address);
        self.server = server.cloned();
    }

    /// The head of the final response.
    pub fn answered(&mut self, head: &ResponseHead) {
        if let Some(http) = &mut self.http {
            http.status = Some(head.status);
        }
        self.trailers(&head.fields);
    }

    /// Notes the status that gRPC keeps in trailers, or in the head when there is nothing else.
    pub fn trailers(&mut self, fields: &Fields) {
        if let (Some(http), Some(status)) = (&mut self.http, fields.get("grpc-status")) {
            http.grpc_status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
        }
    }

    /// Bytes of the request's body, or of the side that connected.
    pub const fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Bytes of the response's body, or to the side that connected.
    pub const fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Makes `head` the answer in place of an upstream's, and gives its body, which counts as sent.
    #[must_use]
    pub fn refuse(&mut self, refusal: &Refusal, grpc: bool, head: &mut ResponseHead) -> String {
        let version = self.http.map_or_else(Version::default, |http| http.version);
        let body = refusal.answer(version, grpc, head);
        self.answered(head);
        self.sent(body.len());
        self.fail(refusal.code, Some(refusal.detail.clone()));
        body
    }

    /// It came to its end. Changes nothing once it has failed.
    pub fn completed(&mut self) {
        if matches!(self.outcome, Outcome::Running) {
            self.outcome = Outcome::Completed;
        }
    }

    /// It failed, in words for the operator. The first failure is the one that counts.
    pub fn fail(&mut self, code: Code, detail: Option<String>) {
        if !matches!(self.outcome, Outcome::Failed { .. }) {
            self.outcome = Outcome::Failed { code, detail };
        }
    }

    /// Writes the record, if one is due, and is ready for the next exchange.
    pub fn finish(&mut self) {
        self.finish_with(Some(Leave::default()));
    }

    /// The same, with a line only where there is leave for one. It is counted either way.
    pub fn finish_with(&mut self, leave: Option<Leave>) {
        let (code, detail) = match std::mem::replace(&mut self.outcome, Outcome::Idle) {
            Outcome::Idle => return,
            Outcome::Running => (Some(Code::ClientClosed), None),
            Outcome::Completed => (None, None),
            Outcome::Failed { code, detail } => (Some(code), detail),
        };
        self.record(code, detail.as_deref(), leave);
        (self.server, self.decided) = (None, None);
        (self.received, self.sent) = (0, 0);
        self.upstream.clear();
        self.summary.shrink();
    }

    fn record(&self, code: Option<Code>, detail: Option<&str>, leave: Option<Leave>) {
        let origin = &*self.origin;
        let mut record = Record {
            direction: origin.direction,
            listener: &origin.listener,
            service: origin.service(),
            started: self.started,
            duration: clock::monotonic() - self.started,
            client: origin.client,
            peer: origin.peer.as_ref().or(self.server.as_ref()),
            http: self.http.map(|http| HttpFacts {
                method: self.summary.method(),
                host: self.summary.host().unwrap_or_default(),
                path: self.summary.path(),
                version: http.version,
                status: http.status,
                grpc_status: http.grpc_status,
            }),
            received: self.received,
            sent: self.sent,
            upstream: Some(self.upstream.as_str()).filter(|address| !address.is_empty()),
            decided: self
                .decided
                .zip(origin.policy.as_deref())
                .map(|(decided, policy)| decided.ruling(policy)),
            code,
            detail,
            leave,
            preamble: &[],
        };
        let mut preamble = origin.preamble.borrow_mut();
        if preamble.text.is_empty() || preamble.server != self.server {
            preamble.server.clone_from(&self.server);
            preamble.text.clear();
            line::preamble(&mut preamble.text, &record);
        }
        record.preamble = &preamble.text;
        self.recorder.record(&record);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Decided {
    /// Keeps what a record needs of a decision.
    #[must_use]
    pub fn of(decision: &Decision<'_>) -> Self {
        let mut audited = [None; MAX_AUDITED];
        for (slot, rule) in audited.iter_mut().zip(decision.audited.iter()) {
            *slot = Some(rule.index());
        }
        Self {
            verdict: decision.verdict,
            rule: decision.deciding_rule().map(|rule| rule.index()),
            otherwise: decision.fallback_name(),
            audited,
        }
    }

    /// The same, as a record tells it. `policy` is the one that decided.
    #[must_use]
    pub fn ruling<'p>(&self, policy: &'p Policy) -> Ruling<'p> {
        let name = |index: usize| policy.rules().get(index).map(|rule| rule.name());
        Ruling {
            verdict: self.verdict,
            rule: self.rule.and_then(name).map_or(self.otherwise, |name| name.as_str()),
            audited: self.audited.map(|index| index.and_then(name)),
        }
    }
}

#[cfg(test)]
mod tests;
