//! What a listener leads to: pick an endpoint, get a connection to it.
//!
//! Each worker has its own upstreams with their own connections. Never looks at policies; the server's ID is checked
//! in the handshake, before any byte of a request leaves.

pub mod channel;
pub mod connect;
pub mod endpoint;
pub mod facts;
pub mod multiplexed;
pub mod pool;
pub mod resolve;
pub mod retry;
pub mod upstreams;

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use svidecar_code::Code;
use tokio::time::Instant;

use self::{channel::Ready, endpoint::Endpoint, facts::ConnectionFacts};
use crate::{
    io::Transport,
    message::{RequestHead, Version, refusal::Refusal},
    plan::upstream::{HttpChoice, UpstreamSpec},
    runtime::worker::Worker,
};

/// An endpoint that failed is passed over for this long while another one works.
const PENALTY: Duration = Duration::from_secs(1);

/// Endpoints that are tried for one connection.
const MAX_ATTEMPTS: usize = 3;

/// An upstream as one worker uses it.
pub struct Upstream {
    spec: Arc<UpstreamSpec>,
    endpoints: Vec<Endpoint>,
    next: Cell<usize>,
}

impl Upstream {
    /// Without any connection yet.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>) -> Rc<Self> {
        let endpoints = spec.endpoints.iter().map(|address| Endpoint::new(&spec, address)).collect();
        Rc::new(Self { spec, endpoints, next: Cell::new(0) })
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
        let start = self.next.get();
        let ready = self.in_turn(start).find(|endpoint| !endpoint.is_avoided())?.pooled(worker)?;
        // Without one, the endpoint keeps its turn: it is asked for a connection next.
        self.next.set(start.wrapping_add(1));
        Some(ready)
    }

    /// A way for one request, over a connection that is shared or over a new one.
    ///
    /// # Errors
    /// What to answer instead.
    pub async fn ready(&self, worker: &Rc<Worker>, http2: bool) -> Result<Ready, Refusal> {
        self.first_that_works(async |endpoint| endpoint.ready(worker, http2).await).await
    }

    /// A way for bytes of any protocol.
    ///
    /// # Errors
    /// What to answer instead; for TCP only its code and detail matter.
    pub async fn bytes(&self, worker: &Rc<Worker>) -> Result<(Transport, Rc<ConnectionFacts>), Refusal> {
        self.first_that_works(async |endpoint| endpoint.bytes(worker).await).await
    }

    /// Asks the endpoints in turn until one gives what is wanted.
    async fn first_that_works<T>(
        &self,
        ask: impl AsyncFn(&Endpoint) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let start = self.next.get();
        self.next.set(start.wrapping_add(1));
        let (good, avoided): (Vec<_>, Vec<_>) =
            self.in_turn(start).partition(|endpoint| !endpoint.is_avoided());
        let mut last = None;
        for endpoint in good.into_iter().chain(avoided).take(MAX_ATTEMPTS) {
            match ask(endpoint).await {
                Ok(got) => {
                    endpoint.avoid(None);
                    return Ok(got);
                }
                Err(refusal) => {
                    endpoint.avoid(Some(Instant::now() + PENALTY));
                    last = Some(refusal);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Refusal::new(
                Code::UpstreamUnresolved,
                format!("the upstream of `{}` has no endpoint", self.spec.name),
            )
        }))
    }

    fn in_turn(&self, start: usize) -> impl Iterator<Item = &Endpoint> {
        let count = self.endpoints.len();
        let skip = start.checked_rem(count).unwrap_or(0);
        self.endpoints.iter().cycle().skip(skip).take(count)
    }
}
