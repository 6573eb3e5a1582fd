//! What a listener leads to: pick an endpoint, get a connection to it, send a request over it.
//!
//! Each worker has its own upstreams with their own connections. Never looks at policies; the server's ID is checked
//! in the handshake, before any byte of a request leaves.

pub mod connect;
pub mod dial;
pub mod pool;
pub mod resolve;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use svidecar_config::address::Address;
use tokio::time::Instant;
use tracing::debug;

use crate::{
    body::RequestBody,
    codes,
    forward::hops,
    refusal::Refusal,
    upstream::{
        dial::{Dialled, UpstreamTls},
        pool::{Connection, ConnectionFacts, Lease, Pool, Sender},
        resolve::Resolver,
    },
    workers::Worker,
};

/// An endpoint that failed is passed over for this long while another one works.
const PENALTY: Duration = Duration::from_secs(1);

/// Endpoints that are tried for one connection.
const MAX_ATTEMPTS: usize = 3;

/// What an upstream is, as the settings say; the same for all workers.
pub struct UpstreamSpec {
    /// The name of the listener that leads here.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<Address>,
    /// mTLS toward the endpoints; `None` toward the app.
    pub tls: Option<UpstreamTls>,
    /// Which HTTP to speak.
    pub http: HttpChoice,
    /// For the TCP connection.
    pub connect_timeout: Duration,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long an unused connection stays open; shorter than the other side's own limit.
    pub idle_timeout: Duration,
    /// Longest head of a response, in bytes.
    pub max_header_bytes: usize,
    /// Most fields in the head of a response.
    pub max_headers: usize,
}

/// Which version of HTTP an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpChoice {
    /// The version of the request, so that nothing is lost in translation.
    AsRequested,
    /// HTTP/2 for gRPC, which cannot do without; HTTP/1.1 for all else.
    ForGrpcHttp2,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, toward the app without TLS by prior knowledge.
    Http2,
}

/// An upstream as one worker uses it.
pub struct Upstream {
    spec: Arc<UpstreamSpec>,
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
}

struct Endpoint {
    address: Address,
    resolver: Option<Resolver>,
    pool: Arc<Pool>,
    avoid_until: Mutex<Option<Instant>>,
}

/// A response, and what belongs to it until it has ended.
pub struct Answer {
    /// The response, with its body still to be read.
    pub response: Response<Incoming>,
    /// The HTTP/1 connection.
    pub lease: Option<Lease>,
    /// The connection's facts.
    pub facts: Arc<ConnectionFacts>,
    /// Whether a reused connection had died and the request went out a second time.
    pub retried: bool,
}

impl Upstream {
    /// Without any connection yet.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>, worker: &Worker) -> Self {
        let endpoint = |address: &Address| Endpoint {
            resolver: match address {
                Address::Tcp { host, port } => Some(Resolver::new(host, *port)),
                Address::Unix(_) => None,
            },
            address: address.clone(),
            pool: Pool::new(spec.idle_timeout, worker.tracker.clone()),
            avoid_until: Mutex::new(None),
        };
        let endpoints = spec.endpoints.iter().map(endpoint).collect();
        Self { spec, endpoints, next: AtomicUsize::new(0) }
    }

    /// What the settings say.
    #[must_use]
    pub const fn spec(&self) -> &Arc<UpstreamSpec> {
        &self.spec
    }

    /// Sends a request and waits for the head of the response. When a reused connection died before any byte of a
    /// response, the request goes out once more on a fresh one, if it never left or may be repeated.
    ///
    /// # Errors
    /// What to answer instead.
    pub async fn send(&self, worker: &Worker, mut request: Request<RequestBody>) -> Result<Answer, Refusal> {
        let asked = request.version() == http::Version::HTTP_2;
        let http2 = match self.spec.http {
            HttpChoice::AsRequested => asked,
            HttpChoice::ForGrpcHttp2 => asked && hops::is_grpc(request.headers()),
            HttpChoice::Http1 => false,
            HttpChoice::Http2 => !request.headers().contains_key(http::header::UPGRADE),
        };
        let mut retried = false;
        if let Some(connection) = self.pooled(http2) {
            let spare = spare_copy(&request);
            match self.attempt(connection, request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    request = match failed.unsent.map(|unsent| *unsent).or(spare) {
                        Some(request) => request,
                        None => return Err(failed.refusal),
                    };
                    debug!(
                        upstream = %self.spec.name,
                        error = failed.refusal.detail,
                        "A reused connection had been closed (the other side's keep-alive is shorter than ours); trying a fresh one"
                    );
                    retried = true;
                }
            }
        }
        let connection = self.fresh(worker, http2).await?;
        let mut answer = self.attempt(connection, request).await.map_err(|failed| failed.refusal)?;
        answer.retried = retried;
        Ok(answer)
    }

    /// Opens a connection for bytes of any protocol.
    ///
    /// # Errors
    /// What to answer instead; for TCP only its code and detail matter.
    pub async fn dial(&self, worker: &Worker) -> Result<Dialled, Refusal> {
        self.dial_any(worker, dial::Alpn::None).await.map(|(dialled, _)| dialled)
    }

    /// A connection that is open already.
    fn pooled(&self, http2: bool) -> Option<Connection> {
        let start = self.next.load(Ordering::Relaxed);
        self.in_turn(start).find_map(|endpoint| match http2 {
            true => endpoint.pool.get_http2(),
            false => endpoint.pool.take_http1(),
        })
    }

    /// A new connection, with HTTP spoken on it.
    async fn fresh(&self, worker: &Worker, http2: bool) -> Result<Connection, Refusal> {
        let alpn = if http2 { dial::Alpn::Http2 } else { dial::Alpn::Http1 };
        let (dialled, endpoint) = self.dial_any(worker, alpn).await?;
        let http2 = http2 && dialled.speaks_http2();
        let connection = dialled.into_http(worker, &self.spec, http2).await?;
        if let Sender::Http2(sender) = &connection.sender {
            endpoint.pool.share_http2(sender.clone(), Arc::clone(&connection.facts));
        }
        Ok(connection)
    }

    /// Dials the endpoints in turn until one answers.
    async fn dial_any(&self, worker: &Worker, alpn: dial::Alpn) -> Result<(Dialled, &Endpoint), Refusal> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let (good, avoided): (Vec<_>, Vec<_>) =
            self.in_turn(start).partition(|endpoint| !endpoint.is_avoided(now));
        let mut last = None;
        for endpoint in good.into_iter().chain(avoided).take(MAX_ATTEMPTS) {
            let dialling =
                dial::dial(worker, &self.spec, &endpoint.address, endpoint.resolver.as_ref(), alpn);
            match dialling.await {
                Ok(dialled) => {
                    endpoint.avoid(None);
                    return Ok((dialled, endpoint));
                }
                Err(refusal) => {
                    endpoint.avoid(Some(Instant::now() + PENALTY));
                    last = Some(refusal);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                codes::UPSTREAM_UNRESOLVED,
                format!("the upstream of `{}` has no endpoint", self.spec.name),
            )
        }))
    }

    async fn attempt(
        &self,
        connection: Connection,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, Failed> {
        let Connection { sender, facts } = connection;
        let sent = match sender {
            Sender::Http1(mut sender) => {
                hops::to_http1(&mut request);
                let pool = self.pool_of(&facts);
                match sender.try_send_request(request).await {
                    Ok(response) => {
                        let lease = pool.map(|pool| Lease::new(pool, sender, Arc::clone(&facts)));
                        Ok((response, lease))
                    }
                    Err(error) => Err(error),
                }
            }
            Sender::Http2(mut sender) => {
                hops::to_http2(&mut request, self.spec.tls.is_some(), &facts.address);
                sender.try_send_request(request).await.map(|response| (response, None))
            }
        };
        match sent {
            Ok((response, lease)) => Ok(Answer { response, lease, facts, retried: false }),
            Err(mut error) => Err(Failed {
                unsent: error.take_message().map(Box::new),
                refusal: failed_exchange(&self.spec.name, &facts.address, error.error()),
            }),
        }
    }

    fn pool_of(&self, facts: &ConnectionFacts) -> Option<Arc<Pool>> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.address == facts.endpoint)
            .map(|endpoint| Arc::clone(&endpoint.pool))
    }

    fn in_turn(&self, start: usize) -> impl Iterator<Item = &Endpoint> {
        let count = self.endpoints.len();
        let skip = start.checked_rem(count).unwrap_or(0);
        self.endpoints.iter().cycle().skip(skip).take(count)
    }
}

impl Endpoint {
    fn is_avoided(&self, now: Instant) -> bool {
        self.avoid_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| until > now)
    }

    fn avoid(&self, until: Option<Instant>) {
        *self.avoid_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// A request that got no response, and the request itself if it never left.
struct Failed {
    unsent: Option<Box<Request<RequestBody>>>,
    refusal: Refusal,
}

/// A second copy of a request that may safely be sent twice: no body, and a method that only asks or that leaves the
/// same state however often it is done (RFC 9110 §9.2.2).
fn spare_copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let repeatable = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if !repeatable || !request.body().is_end_stream() || request.headers().contains_key(http::header::UPGRADE)
    {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Names what went wrong between a request and its response.
fn failed_exchange(upstream: &str, address: &str, error: &hyper::Error) -> Refusal {
    let (status, code, what) = if error.is_parse() {
        (StatusCode::BAD_GATEWAY, codes::UPSTREAM_PROTOCOL_ERROR, "sent something that is not HTTP")
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        (StatusCode::BAD_GATEWAY, codes::UPSTREAM_CLOSED, "closed the connection before it answered")
    } else {
        (StatusCode::BAD_GATEWAY, codes::UPSTREAM_FAILED, "failed before it answered")
    };
    let source = std::error::Error::source(error).map(|source| format!(" ({source})")).unwrap_or_default();
    Refusal::new(status, code, format!("`{upstream}` at {address} {what}: {error}{source}"))
}
