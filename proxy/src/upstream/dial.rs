//! Opens connections: TCP or Unix, then mTLS toward peers, then HTTP where it is wanted.

use std::{io, pin::pin, sync::Arc};

use http::StatusCode;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_pki_types::UnixTime;
use svidecar_authority::tls::ResumingClient;
use svidecar_config::{address::Address, pattern::IdPattern};
use svidecar_id::SpiffeId;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;
use tracing::{debug, info, warn};

use crate::{
    codes,
    connections::{Event, LOSER_GRACE, Lifeline, time_to_leave},
    drain::Direction,
    handshake,
    net::Stream,
    peer::Peer,
    refusal::Refusal,
    snapshot::Snapshot,
    upstream::{
        UpstreamSpec,
        pool::{Connection, ConnectionFacts, Sender},
        resolve::Resolver,
    },
    workers::Worker,
};

/// An HTTP/2 connection with running requests is probed this often, and given up after the same time again.
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);

/// Flow control windows of HTTP/2: a stream's bounds what one slow reader can make us hold.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// For all streams of a connection; several times a stream's, for equal ones can deadlock.
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// mTLS toward an upstream.
pub struct UpstreamTls {
    /// IDs that the server may have; at least one.
    pub server_ids: Arc<[IdPattern]>,
    /// Offers HTTP/1.1.
    pub http1: Arc<ClientConfig>,
    /// Offers HTTP/2, then HTTP/1.1.
    pub http2: Arc<ClientConfig>,
    /// Offers nothing, for TCP.
    pub plain: Arc<ClientConfig>,
    /// Whatever is offered.
    pub client: ResumingClient,
}

impl UpstreamTls {
    /// Whether a server of this ID is expected.
    #[must_use]
    pub fn expects(&self, id: &SpiffeId) -> bool {
        self.server_ids.iter().any(|pattern| pattern.matches(id))
    }

    fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        Arc::clone(match alpn {
            Alpn::None => &self.plain,
            Alpn::Http1 => &self.http1,
            Alpn::Http2 => &self.http2,
        })
    }
}

/// What to offer in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// Nothing: bytes of any protocol.
    None,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, or HTTP/1.1 if the server has no HTTP/2.
    Http2,
}

/// A connection that nobody has used yet.
pub struct Dialled {
    /// The bytes.
    pub stream: DialledStream,
    /// What is known of it.
    pub facts: Arc<ConnectionFacts>,
}

/// Its stream.
pub enum DialledStream {
    /// Toward the app.
    Plain(Stream),
    /// Toward a peer.
    Tls(Box<TlsStream<Stream>>),
}

/// Opens one connection to one endpoint, within the upstream's timeouts.
///
/// # Errors
/// What to answer to who asked.
pub async fn dial(
    worker: &Worker,
    spec: &UpstreamSpec,
    endpoint: &Address,
    resolver: Option<&Resolver>,
    alpn: Alpn,
) -> Result<Dialled, Refusal> {
    if spec.tls.is_some() {
        require_identity(worker, spec)?;
    }
    let connecting = connect(endpoint, resolver);
    let (stream, address) = match tokio::time::timeout(spec.connect_timeout, connecting).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => {
            if let Some(resolver) = resolver {
                resolver.doubt();
            }
            return Err(cannot_connect(spec, endpoint, &error));
        }
        Err(_) => {
            let detail =
                format!("`{}` at {endpoint} did not accept within {:?}", spec.name, spec.connect_timeout);
            return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, codes::UPSTREAM_CONNECT_TIMEOUT, detail));
        }
    };
    let Some(tls) = &spec.tls else {
        let facts = Arc::new(ConnectionFacts::new(endpoint.clone(), address, None));
        return Ok(Dialled { stream: DialledStream::Plain(stream), facts });
    };
    let name = server_name(endpoint);
    match handshake::connect(stream, tls.config(alpn), name, spec.handshake_timeout).await {
        Ok((stream, server)) => {
            worker.shared.note_server(&spec.name, &address, server.id());
            let facts = Arc::new(ConnectionFacts::new(endpoint.clone(), address, Some(Arc::new(server))));
            Ok(Dialled { stream: DialledStream::Tls(Box::new(stream)), facts })
        }
        Err(failure) => {
            warn!(
                upstream = %spec.name,
                endpoint = %endpoint,
                address,
                code = failure.code,
                presented_id = failure.presented.as_ref().map(SpiffeId::as_str),
                error = %failure,
                "The mTLS handshake with the server failed"
            );
            let status = match failure.code {
                codes::HANDSHAKE_TIMEOUT => StatusCode::GATEWAY_TIMEOUT,
                codes::NO_IDENTITY => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_GATEWAY,
            };
            let detail = format!("`{}` at {endpoint} ({address}): {failure}", spec.name);
            Err(Refusal::new(status, failure.code, detail))
        }
    }
}

/// Without an SVID every server would refuse us with an alert that explains nothing.
fn require_identity(worker: &Worker, spec: &UpstreamSpec) -> Result<(), Refusal> {
    let snapshot = worker.shared.current.load();
    let identity = &snapshot.identity;
    if identity.valid_svid(UnixTime::now()).is_some() {
        return Ok(());
    }
    let (state, why) = (identity.status.state.as_str(), &identity.status.detail);
    let detail = format!("there is no valid SVID to connect to `{}` with ({state}: {why})", spec.name);
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, codes::NO_IDENTITY, detail))
}

async fn connect(endpoint: &Address, resolver: Option<&Resolver>) -> io::Result<(Stream, String)> {
    let Some(resolver) = resolver else {
        let Address::Unix(path) = endpoint else {
            return Err(io::Error::other("a name without a resolver"));
        };
        let stream = UnixStream::connect(path).await?;
        return Ok((Stream::unix(stream), endpoint.to_string()));
    };
    let mut last = None;
    for address in resolver.addresses().await.map_err(|error| Unresolved(error).into_io())? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok((Stream::tcp(stream), address.to_string())),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

/// Marks an error as the name servers', which has a code of its own.
#[derive(Debug, thiserror::Error)]
#[error("its name cannot be resolved: {0}")]
struct Unresolved(io::Error);

impl Unresolved {
    fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, self)
    }
}

fn cannot_connect(spec: &UpstreamSpec, endpoint: &Address, error: &io::Error) -> Refusal {
    let unresolved = error.get_ref().is_some_and(|inner| inner.is::<Unresolved>());
    let code = match error.kind() {
        _ if unresolved => codes::UPSTREAM_UNRESOLVED,
        io::ErrorKind::ConnectionRefused => codes::UPSTREAM_REFUSED,
        _ => codes::UPSTREAM_UNREACHABLE,
    };
    let hint = match (spec.tls.is_some(), error.kind()) {
        (false, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => "; is the app running there?",
        _ => "",
    };
    let detail = format!("cannot connect to `{}` at {endpoint}: {error}{hint}", spec.name);
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
}

/// The name in the handshake. SPIFFE peers ignore it (the ID is what counts), but routers on the way read it.
fn server_name(endpoint: &Address) -> ServerName<'static> {
    let host = match endpoint {
        Address::Tcp { host, .. } => host.as_str(),
        Address::Unix(_) => "localhost",
    };
    ServerName::try_from(host.to_owned())
        .unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()))
}

impl Dialled {
    /// Whether HTTP/2 may be spoken: agreed on by ALPN, or assumed of an app that is configured so.
    #[must_use]
    pub fn speaks_http2(&self) -> bool {
        match &self.stream {
            DialledStream::Plain(_) => true,
            DialledStream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Starts HTTP on the connection. The worker drives it from now on.
    ///
    /// # Errors
    /// What to answer if the other side does not even begin to speak HTTP.
    pub async fn into_http(
        self,
        worker: &Worker,
        spec: &Arc<UpstreamSpec>,
        http2: bool,
    ) -> Result<Connection, Refusal> {
        let facts = self.facts;
        let started = match self.stream {
            DialledStream::Plain(stream) => start_http(worker, spec, stream, http2, &facts).await,
            DialledStream::Tls(stream) => start_http(worker, spec, stream, http2, &facts).await,
        };
        match started {
            Ok(sender) => Ok(Connection { sender, facts }),
            Err(error) => {
                let detail = format!("`{}` at {} does not begin HTTP: {error}", spec.name, facts.address);
                Err(Refusal::new(StatusCode::BAD_GATEWAY, codes::UPSTREAM_PROTOCOL_ERROR, detail))
            }
        }
    }
}

async fn start_http(
    worker: &Worker,
    spec: &Arc<UpstreamSpec>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    http2: bool,
    facts: &Arc<ConnectionFacts>,
) -> Result<Sender, hyper::Error> {
    let io = TokioIo::new(stream);
    let guard = Watch::new(worker, spec, facts);
    if http2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .max_header_list_size(u32::try_from(spec.max_header_bytes).unwrap_or(u32::MAX))
            .handshake(io)
            .await?;
        worker.tracker.spawn(guard.drive(connection));
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(spec.max_headers)
        .max_buf_size(spec.max_header_bytes.max(8192))
        .handshake(io)
        .await?;
    worker.tracker.spawn(guard.drive(connection.with_upgrades()));
    Ok(Sender::Http1(sender))
}

/// Looks after a live connection to a server: when its server would not be accepted any more, or its SVID expires, the
/// connection takes no new request.
struct Watch {
    spec: Arc<UpstreamSpec>,
    facts: Arc<ConnectionFacts>,
    shared: Arc<crate::shared::Shared>,
    lifeline: Lifeline,
}

impl Watch {
    fn new(worker: &Worker, spec: &Arc<UpstreamSpec>, facts: &Arc<ConnectionFacts>) -> Self {
        let mut lifeline = worker.shared.lifeline(Direction::Outbound);
        let expires = worker.shared.current.load().plan.expiry_grace().is_some();
        if let Some(server) = facts.server.as_ref().filter(|_| expires) {
            let left = time_to_leave(server.facts().not_after, UnixTime::now(), rand::random());
            lifeline.expire_after(left);
        }
        Self {
            spec: Arc::clone(spec),
            facts: Arc::clone(facts),
            shared: Arc::clone(&worker.shared),
            lifeline,
        }
    }

    async fn drive(mut self, connection: impl Future<Output = Result<(), hyper::Error>>) {
        let mut connection = pin!(connection);
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        debug!(upstream = %self.spec.name, address = self.facts.address, %error, "An upstream connection failed");
                    }
                    self.facts.retire();
                    return;
                }
                event = self.lifeline.next() => match event {
                    Event::Changed => self.decide_again(),
                    Event::PeerExpired => {
                        info!(upstream = %self.spec.name, address = self.facts.address, "The server's SVID expires; its connection takes no new request");
                        self.facts.retire();
                    }
                    Event::Draining => {}
                    Event::TimeIsUp => {
                        self.facts.retire();
                        return;
                    }
                }
            }
        }
    }

    fn decide_again(&mut self) {
        let Some(server) = &self.facts.server else { return };
        let Some(reason) = objection(&self.shared.current.load(), &self.spec, server) else { return };
        warn!(upstream = %self.spec.name, address = self.facts.address, reason, "The server would not be accepted any more; closing its connection");
        self.facts.retire();
        self.lifeline.end_within(LOSER_GRACE);
    }
}

/// Why a server that was accepted would not be accepted now, if so.
#[must_use]
pub fn objection(snapshot: &Snapshot, spec: &UpstreamSpec, server: &Peer) -> Option<String> {
    match server.still_trusted(&snapshot.identity.bundles, UnixTime::now()) {
        Err(error) => Some(error.to_string()),
        Ok(()) => {
            let expected = spec.tls.as_ref().is_none_or(|tls| tls.expects(server.id()));
            (!expected).then(|| format!("`{}` is not an expected server ID", server.id()))
        }
    }
}

/// The server's ID, when the connection is mTLS.
#[must_use]
pub fn server_id(facts: &ConnectionFacts) -> Option<&SpiffeId> {
    facts.server.as_deref().map(Peer::id)
}
