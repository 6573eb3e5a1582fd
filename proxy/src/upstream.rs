//! What a listener leads to: pick an endpoint, get a connection to it.
//!
//! Each worker has its own upstreams with their own connections. Never looks at policies; the server's ID is checked
//! in the handshake, before any byte of a request leaves.

pub mod aborts;
pub mod balance;
pub mod channel;
pub mod connect;
pub mod endpoint;
pub mod facts;
pub mod health;
pub mod members;
pub mod multiplexed;
pub mod place;
pub mod pool;
pub mod resolve;
pub mod retry;
pub mod upstreams;

use std::{cell::Cell, rc::Rc, sync::Arc};

use svidecar_code::Code;

use self::{
    channel::Ready,
    connect::{Allowance, Failure, Offer},
    endpoint::Endpoint,
    facts::ConnectionFacts,
    members::Members,
};
use crate::{
    io::Transport,
    message::{RequestHead, Version, refusal::Refusal},
    plan::upstream::{BytesChoice, HttpChoice, UpstreamSpec},
    runtime::worker::Worker,
};

/// An upstream as one worker uses it.
pub struct Upstream {
    spec: Arc<UpstreamSpec>,
    /// For each endpoint of the settings.
    members: Vec<Members>,
    turn: Cell<usize>,
}

impl Upstream {
    /// Without any connection yet.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>) -> Rc<Self> {
        let members = spec.endpoints.iter().map(|name| Members::new(&spec, name)).collect();
        Rc::new(Self { spec, members, turn: Cell::new(0) })
    }

    /// What the settings say.
    #[must_use]
    pub const fn spec(&self) -> &Arc<UpstreamSpec> {
        &self.spec
    }

    /// Whether this request goes over HTTP/2, where the other side has it.
    #[must_use]
    pub fn takes_http2(&self, head: &RequestHead) -> bool {
        let asked = head.version == Version::Http2;
        match self.spec.http {
            HttpChoice::AsRequested => asked,
            HttpChoice::ForGrpcHttp2 => asked && head.is_grpc(),
            HttpChoice::Http1 => false,
            // HTTP/2 has no switch of protocols.
            HttpChoice::Http2 => !head.fields.contains("upgrade"),
        }
    }

    /// A connection that has served a request and is there for the next, to the endpoint whose turn it is.
    #[must_use]
    pub fn pooled(&self, worker: &Worker, http2: bool) -> Option<Ready> {
        if http2 {
            return None;
        }
        let turn = self.turn.get();
        let (_, members) = self.next(turn, &[]).filter(|(_, members)| !members.is_avoided())?;
        let ready = members.pooled(worker)?;
        // Without one, they keep their turn: they are asked for a connection next.
        self.turn.set(turn.wrapping_add(1));
        Some(ready)
    }

    /// A way for one request, over a connection that is shared or over a new one.
    ///
    /// # Errors
    /// What to answer instead.
    pub async fn ready(&self, worker: &Rc<Worker>, http2: bool) -> Result<Ready, Refusal> {
        let offer = if http2 { Offer::Http2 } else { Offer::Http1 };
        let ask = async |endpoint: &Endpoint, allowance: &mut Allowance| {
            endpoint.ready(worker, offer, allowance).await
        };
        self.first_that_works(worker, offer, ask).await
    }

    /// A way for bytes of any protocol.
    ///
    /// # Errors
    /// What to answer instead; for TCP only its code and detail matter.
    pub async fn bytes(&self, worker: &Rc<Worker>) -> Result<(Transport, Rc<ConnectionFacts>), Refusal> {
        let offer = match self.spec.bytes {
            BytesChoice::Auto => Offer::Bytes,
            BytesChoice::Hbone(_) => Offer::Hbone,
        };
        let ask =
            async |endpoint: &Endpoint, allowance: &mut Allowance| endpoint.bytes(worker, allowance).await;
        self.first_that_works(worker, offer, ask).await
    }

    /// Asks the members in turn until one gives what is wanted.
    async fn first_that_works<T>(
        &self,
        worker: &Worker,
        offer: Offer,
        ask: impl AsyncFn(&Endpoint, &mut Allowance) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let mut asked = Vec::new();
        let mut last = None;
        while asked.len() < retry::MOST_NAMES
            && let Some((place, members)) = self.next(turn, &asked)
        {
            match members.first_that_works(worker, offer, &ask).await {
                Ok(got) => return Ok(got),
                Err(refusal) => last = Some(refusal),
            }
            asked.push(place);
        }
        Err(last.unwrap_or_else(|| {
            Refusal::new(
                Code::UpstreamUnresolved,
                format!("the upstream of `{}` has no endpoint", self.spec.name),
            )
        }))
    }

    /// Those that are asked next, of those that were not.
    fn next(&self, turn: usize, asked: &[usize]) -> Option<(usize, &Members)> {
        let states = self.members.iter().enumerate().map(|(place, members)| balance::State {
            is_avoided: members.is_avoided(),
            was_asked: asked.contains(&place),
        });
        let place = balance::next(states, turn)?;
        Some((place, self.members.get(place)?))
    }
}
