//! Decisions: the policy's pure function, asked with a connection's facts.
//!
//! No I/O, no clock. What was asked is kept among the [`Flights`](super::flights::Flights) of its connection, so that it can be asked again when the
//! policy changes.

use svidecar_id::SpiffeId;
use svidecar_policy::{Decision, Headers, Policy, Request};

use crate::message::{Fields, Summary};

impl Headers for Fields {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.get_all(name).for_each(visit);
    }
}

/// Decides about one request whose target is [normalized](super::normalize).
#[must_use]
pub fn ask<'p>(
    policy: &'p Policy,
    peer: &SpiffeId,
    summary: &Summary,
    fields: Option<&Fields>,
) -> Decision<'p> {
    policy.decide(&Request {
        peer: Some(peer),
        method: Some(summary.method()),
        path: Some(summary.path()),
        host: summary.host(),
        headers: fields.map(|fields| fields as _),
    })
}

/// Decides about a TCP connection.
#[must_use]
pub fn connection<'p>(policy: &'p Policy, peer: &SpiffeId) -> Decision<'p> {
    policy.decide(&Request { peer: Some(peer), ..Request::default() })
}
