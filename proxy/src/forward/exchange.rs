//! One request on its way: the heads that go through, what its decision rests on, and its record.
//!
//! Lives as long as its connection, and is used again for the connection's next request.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use svidecar_code::Code;
use svidecar_process::clock;

use super::{
    deadlines::Deadlines,
    relay::{Broken, Relay},
};
use crate::{
    admit::{Admission, flights::InFlight},
    message::{RequestHead, ResponseHead, refusal::Refusal},
    record::{self, Origin},
    runtime::{budgets::Counted, worker::Worker},
    upstream::facts::ConnectionFacts,
};

/// One request with its response.
pub struct Exchange {
    /// The head of the request: as it came, and then as it is forwarded.
    pub request: RequestHead,
    /// The head of the response: as it came, and then as it is forwarded.
    pub response: ResponseHead,
    /// What is written down about it, exactly once.
    pub record: record::Recording,
    /// How long it may take.
    pub deadlines: Deadlines,
    flight: Option<InFlight>,
    counted: Option<Counted>,
    upstream: Option<Rc<ConnectionFacts>>,
    is_answered: bool,
}

impl Exchange {
    /// For the requests of one connection, of which none has begun.
    #[must_use]
    pub fn new(worker: &Worker, origin: &Rc<Origin>) -> Self {
        Self {
            request: RequestHead::default(),
            response: ResponseHead::default(),
            record: record::Recording::new(&worker.recorder, origin),
            deadlines: Deadlines::default(),
            flight: None,
            counted: None,
            upstream: None,
            is_answered: false,
        }
    }

    /// Begins with the request whose head has just been read.
    pub fn begin(&mut self, origin: &Rc<Origin>) {
        self.record.begin_request(origin, clock::monotonic(), &self.request);
        self.is_answered = false;
    }

    /// What its admission rests on, for as long as the request runs.
    pub fn takes_off(&mut self, admission: Admission) {
        (self.flight, self.counted) = (admission.flight, admission.counted);
    }

    /// Ready when the request is no longer allowed.
    pub fn poll_killed(&self, cx: &Context<'_>) -> Poll<()> {
        self.flight.as_ref().map_or(Poll::Pending, |flight| flight.poll_killed(cx))
    }

    /// The connection that it is forwarded over.
    pub fn goes_to(&mut self, facts: &Rc<ConnectionFacts>) {
        note_upstream(&mut self.record, facts);
        self.upstream = Some(Rc::clone(facts));
    }

    /// The connection that it was last forwarded over.
    #[must_use]
    pub fn upstream(&self) -> Option<&ConnectionFacts> {
        self.upstream.as_deref()
    }

    /// The response's head goes out.
    pub fn answered(&mut self) {
        self.record.answered(&self.response);
        self.is_answered = true;
    }

    /// Whether the head of a final response went out.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Answers in place of an upstream. Gives the body.
    #[must_use]
    pub fn refuse(&mut self, refusal: &Refusal, is_grpc: bool) -> String {
        self.is_answered = true;
        self.record.refuse(refusal, is_grpc, &mut self.response)
    }

    /// It is over, well unless it failed. Recorded at once.
    pub fn end(&mut self) {
        self.record.completed();
        self.record.finish();
        self.deadlines.end();
        (self.flight, self.counted, self.upstream) = (None, None, None);
        self.request.shrink();
        self.response.shrink();
    }
}

/// Notes where a request or a connection goes.
pub fn note_upstream(record: &mut record::Recording, facts: &ConnectionFacts) {
    record.forwarded_to(&facts.address, facts.server.as_ref().map(|server| server.id()));
}

/// The relay that an exchange was, or became, is over. Recorded at once.
pub fn note_relay(record: &mut record::Recording, relay: &Relay, end: Result<(), Broken<Code>>) {
    record.received(usize::try_from(relay.received()).unwrap_or(usize::MAX));
    record.sent(usize::try_from(relay.sent()).unwrap_or(usize::MAX));
    match end {
        Ok(()) => record.completed(),
        Err(Broken::Failed(failure)) => record.fail(failure.code, Some(failure.error.to_string())),
        Err(Broken::Over(code)) => record.fail(code, None),
    }
    record.finish();
}
