//! The facts of a request or a connection, as the line and the metrics are made of them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use svidecar_code::Code;
use svidecar_id::SpiffeId;
use svidecar_policy::{MAX_AUDITED, RuleName, Verdict};
use svidecar_process::throttle::Leave;

use crate::message::Version;

/// Whose traffic it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From peers to our workload.
    Inbound,
    /// From our workload to peers.
    Outbound,
}

impl Direction {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What a policy said, as a record tells it.
#[derive(Debug, Clone, Copy)]
pub struct Ruling<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The name of the rule that decided, or `default`, or `unauthenticated`.
    pub rule: &'a str,
    pub(super) audited: [Option<&'a RuleName>; MAX_AUDITED],
}

impl Record<'_> {
    /// Whether it is what somebody did who may: our workload, or a peer that the policy let pass. Of these no line is given up
    /// for others'.
    pub(super) fn is_of_allowed(&self) -> bool {
        self.direction == Direction::Outbound
            || self.decided.is_some_and(|ruling| ruling.verdict == Verdict::Allow)
    }
}

impl<'a> Ruling<'a> {
    /// The audit rules that matched.
    pub fn audited(&self) -> impl Iterator<Item = &'a RuleName> {
        self.audited.into_iter().flatten()
    }
}

/// The facts of an HTTP exchange.
#[derive(Debug, Clone, Copy)]
pub struct HttpFacts<'a> {
    /// The method.
    pub method: &'a str,
    /// The authority or `host` header; empty when there was none.
    pub host: &'a str,
    /// The path as it was forwarded, without its query, which may hold secrets.
    pub path: &'a str,
    /// The version that the client speaks.
    pub version: Version,
    /// The status that the client got; `None` when it got none.
    pub status: Option<u16>,
    /// `grpc-status` of the response, when it had one.
    pub grpc_status: Option<u32>,
}

/// All facts of one request, or of one connection that carried no requests.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Whose traffic it is.
    pub direction: Direction,
    /// The listener's name.
    pub listener: &'a str,
    /// The policy's service, or the name of the upstream.
    pub service: &'a str,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub duration: Duration,
    /// The address that connected; `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    /// The verified ID at the other end of the mTLS connection.
    pub peer: Option<&'a SpiffeId>,
    /// The exchange; `None` for a connection.
    pub http: Option<HttpFacts<'a>>,
    /// Bytes from the side that connected.
    pub received: u64,
    /// Bytes to the side that connected.
    pub sent: u64,
    /// The address that it was forwarded to.
    pub upstream: Option<&'a str>,
    /// What the policy said; `None` where none was asked.
    pub decided: Option<Ruling<'a>>,
    /// Why it failed, `None` when it did not.
    pub code: Option<Code>,
    /// The failure in words.
    pub detail: Option<&'a str>,
    /// Leave to write a line, with how many were kept back before it; without, it is only counted.
    pub leave: Option<Leave>,
    /// What lines of the connection begin with, as an earlier record of it was written; empty if nothing is kept.
    pub preamble: &'a [u8],
}
