//! The pieces, each as a loop over what the proxy itself calls. What a connection prepares once is prepared outside of
//! the loop.

mod frames;
mod heads;
mod records;

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::ValueEnum;
use svidecar::admit::decide;
use svidecar::message::Summary;
use svidecar_config::policy::{Policy, Protocol};
use svidecar_id::SpiffeId;

/// The identity of the caller in all pieces.
const CLIENT_ID: &str = "spiffe://demo.org/workload/client";
/// Our own identity.
const SERVER_ID: &str = "spiffe://demo.org/workload/server";

/// A piece. The names are those of the command line and of the file of counts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Piece {
    /// HTTP/1.1: read the head of a request
    ReadRequest,
    /// HTTP/1.1: read it, normalize, clean, set the identity headers, write it
    PassRequest,
    /// HTTP/1.1: read the head of a response, clean it, write it
    PassResponse,
    /// One decision of a policy of 100 rules
    Decide,
    /// Remove what the peer sent as identity headers, set ours
    IdentityHeaders,
    /// The identity headers of a peer, once for each connection
    PeerHeaders,
    /// Read an `x-forwarded-client-cert` of two elements
    XfccParse,
    /// A line of the access log, and the metrics
    Record,
    /// The metrics alone
    Metrics,
    /// HTTP/2: a request and its response, both ends
    H2Exchange,
    /// HTTP/2: 16 KiB of a body, both ends
    H2Data,
}

impl Piece {
    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Runs it so many times.
    ///
    /// # Errors
    /// When it does not do what it is to do.
    pub fn run(self, times: usize) -> Result<()> {
        match self {
            Self::ReadRequest => heads::read_request(times),
            Self::PassRequest => heads::pass_request(times),
            Self::PassResponse => heads::pass_response(times),
            Self::Decide => decide_about(times),
            Self::IdentityHeaders => heads::identity_headers(times),
            Self::PeerHeaders => heads::peer_headers(times),
            Self::XfccParse => heads::xfcc_parse(times),
            Self::Record => records::lines(times),
            Self::Metrics => records::metrics(times),
            Self::H2Exchange => frames::exchanges(times),
            Self::H2Data => frames::data(times),
        }
    }
}

fn id(text: &str) -> Result<SpiffeId> {
    SpiffeId::parse(text).with_context(|| text.to_owned())
}

/// Prepares something in a thread of its own, whose instructions do not count: hash maps with a random secret take another
/// way each time.
fn aside<T: Send>(prepare: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let prepared = std::thread::scope(|scope| scope.spawn(prepare).join());
    prepared.map_err(|_| anyhow!("the preparation panicked"))?
}

/// A hundred rules, of which the last allows the client.
fn policy() -> Result<Policy> {
    aside(parse_policy)
}

fn parse_policy() -> Result<Policy> {
    let to = "to: {methods: [GET, POST], paths: ['/orders/{id}', '/static/**']}";
    let mut text = "service: orders\ndefault: deny\nrules:\n".to_owned();
    for at in 1..100 {
        writeln!(
            text,
            "  - {{name: r{at}, from: ['spiffe://demo.org/workload/{at}', 'spiffe://demo.org/ns/{at}/*/web'], {to}}}"
        )?;
    }
    writeln!(text, "  - {{name: client, from: ['{CLIENT_ID}'], {to}}}")?;
    Ok(Policy::parse(&text, Path::new("policy.yaml"), Protocol::Http)?)
}

fn decide_about(times: usize) -> Result<()> {
    let (policy, peer, head) = (policy()?, id(CLIENT_ID)?, heads::request_head()?);
    let mut summary = Summary::default();
    for _ in 0..times {
        summary.set(black_box(&head));
        let decision = decide::ask(&policy, &peer, &summary, Some(&head.fields));
        ensure!(decision.is_allowed(), "the request is not allowed");
    }
    Ok(())
}
