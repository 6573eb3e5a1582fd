//! The pieces, each as a loop over what the proxy itself calls. What a connection prepares once is prepared outside of
//! the loop.

mod frames;
mod given;
mod heads;
mod records;

use std::hint::black_box;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use svidecar::admit::decide;
use svidecar::message::Summary;

use self::given::{CLIENT_ID, id, policy};

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

fn decide_about(times: usize) -> Result<()> {
    let (policy, peer, head) = (policy()?, id(CLIENT_ID)?, heads::request_head()?);
    let mut summary = Summary::default();
    for _ in 0..times {
        summary.set(black_box(&head));
        let decision = decide::ask(&policy, Some(&peer), &summary, Some(&head.fields));
        ensure!(decision.is_allowed(), "the request is not allowed");
    }
    Ok(())
}
