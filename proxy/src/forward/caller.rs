//! Who asks: a peer, by an inbound listener, or our workload, by an outbound one; and all that differs between the two on a
//! request's way.

use std::{rc::Rc, time::Duration};

use super::exchange::Exchange;
use crate::{
    http1::Limits,
    message::{Fields, refusal::Refusal},
    runtime::{
        connections::{Event, Fate},
        worker::Worker,
    },
    upstream::{Upstream, facts::ConnectionFacts},
};

/// How long a connection of a caller may wait.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the whole head of a request.
    pub head: Duration,
    /// For the next request.
    pub idle: Duration,
}

/// A request that may pass.
pub struct Admission {
    /// Where it goes.
    pub upstream: Rc<Upstream>,
    /// It asks to switch protocols, and may.
    pub may_switch: bool,
}

/// One connection from which requests come, whatever they are written in.
pub trait Caller {
    /// The thread it lives on.
    fn worker(&self) -> &Rc<Worker>;

    /// What a request of it may cost.
    fn limits(&self) -> Limits;

    /// How long it may wait.
    fn timeouts(&self) -> Timeouts;

    /// The record of a request that has just begun, with what the connection knows.
    fn begin(&self, exchange: &mut Exchange);

    /// Decides about the request, and gives its head the form in which it is forwarded. Says where it is forwarded to.
    ///
    /// # Errors
    /// What to answer instead.
    fn admit(&self, exchange: &mut Exchange) -> Result<Admission, Refusal>;

    /// Takes out of a request's trailers what a caller may not say.
    fn clean_trailers(&self, trailers: &mut Fields);

    /// What an event means for the connection, and for what it is doing: a request that goes to `upstream`.
    fn judge(&self, event: Event, upstream: Option<&ConnectionFacts>) -> Fate;

    /// A request got no answer but ours: says so in the log, where it is not its caller's fault.
    fn refused(&self, refusal: &Refusal);
}
