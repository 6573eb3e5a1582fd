//! Where a listener leads to, compiled: an upstream as the settings say, the same for all workers.
//!
//! Values only; connections are the `upstream` room's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use svidecar_authority::{AuthorityError, tls::ResumingClient};
use svidecar_config::{
    address::Address,
    proxy::{ForwardProtocol, InboundSettings, OutboundSettings, TunnelDestination, UpstreamTunnel},
};
use svidecar_id::SpiffeId;
use svidecar_policy::pattern::IdPattern;

use super::tls::TlsSource;

/// Toward the app: shorter than any app's own keep-alive, so that it never closes a connection under our request.
const APP_IDLE: Duration = Duration::from_secs(3);

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
    /// How bytes of any protocol get there.
    pub bytes: BytesChoice,
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
    /// The connections that are open to it.
    pub open: OpenUpstream,
}

/// How many connections are open to an upstream, of all workers together, and how many may be.
#[derive(Clone, Debug)]
pub struct OpenUpstream {
    most: usize,
    count: Arc<AtomicUsize>,
}

/// One of them; counted until it is dropped.
#[derive(Debug)]
pub struct UpstreamPlace(Arc<AtomicUsize>);

impl OpenUpstream {
    /// At most so many, and none yet.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, count: Arc::default() }
    }

    /// At most so many, with those that were opened by the settings before.
    fn resized(before: Option<&Arc<UpstreamSpec>>, most: u32) -> Self {
        let count = before.map(|spec| Arc::clone(&spec.open.count)).unwrap_or_default();
        Self { most: most as usize, count }
    }

    /// A place for one more, if there is one.
    #[must_use]
    pub fn place(&self) -> Option<UpstreamPlace> {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        let place = UpstreamPlace(Arc::clone(&self.count));
        (before < self.most).then_some(place)
    }

    /// Most that may be open.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether so many are open that none should wait for a request that may not come: another worker may need its place.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.count() > self.most / 2
    }
}

impl Drop for UpstreamPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// mTLS toward an upstream.
pub struct UpstreamTls {
    /// IDs that the server may have; at least one.
    pub server_ids: Arc<[IdPattern]>,
    /// Whatever is offered.
    pub client: ResumingClient,
}

impl UpstreamTls {
    /// Whether a server of this ID is expected.
    #[must_use]
    pub fn expects(&self, id: &SpiffeId) -> bool {
        self.server_ids.iter().any(|pattern| pattern.matches(id))
    }
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

/// How bytes of any protocol get to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BytesChoice {
    /// In streams of a shared connection where a svidecar answers; else over a connection of their own.
    Auto,
    /// In streams of a shared connection, whoever answers: CONNECT over HTTP/2, to this destination or to the endpoint
    /// itself.
    Hbone(Option<TunnelDestination>),
}

/// The app behind an inbound listener.
pub(super) fn app(
    name: &Arc<str>,
    settings: &InboundSettings,
    before: Option<&Arc<UpstreamSpec>>,
) -> Arc<UpstreamSpec> {
    Arc::new(UpstreamSpec {
        name: Arc::clone(name),
        endpoints: vec![settings.forward.clone()],
        tls: None,
        http: match settings.forward_protocol {
            ForwardProtocol::Auto => HttpChoice::ForGrpcHttp2,
            ForwardProtocol::Http1 => HttpChoice::Http1,
            ForwardProtocol::Http2 => HttpChoice::Http2,
        },
        bytes: BytesChoice::Auto,
        connect_timeout: settings.timeouts.connect.get(),
        handshake_timeout: settings.timeouts.handshake.get(),
        idle_timeout: APP_IDLE,
        max_header_bytes: settings.limits.max_header_bytes.as_usize(),
        max_headers: usize::from(settings.limits.max_headers),
        open: OpenUpstream::resized(before, settings.limits.max_upstream_connections),
    })
}

/// The servers that an outbound listener leads to.
pub(super) fn server(
    name: &Arc<str>,
    settings: &OutboundSettings,
    source: &TlsSource,
    before: Option<&Arc<UpstreamSpec>>,
) -> Result<Arc<UpstreamSpec>, AuthorityError> {
    let server_ids: Arc<[IdPattern]> = settings.upstream.server_id.clone().into();
    let tls = UpstreamTls { client: source.client(&server_ids)?, server_ids: Arc::clone(&server_ids) };
    Ok(Arc::new(UpstreamSpec {
        name: Arc::clone(name),
        endpoints: settings.upstream.endpoints.clone(),
        tls: Some(tls),
        http: HttpChoice::AsRequested,
        bytes: match settings.upstream.tunnel {
            UpstreamTunnel::Auto => BytesChoice::Auto,
            UpstreamTunnel::Hbone => BytesChoice::Hbone(settings.upstream.destination.clone()),
        },
        connect_timeout: settings.timeouts.connect.get(),
        handshake_timeout: settings.timeouts.handshake.get(),
        // Half of what our own inbound side waits, so that it is this side that closes.
        idle_timeout: settings.timeouts.idle.get() / 2,
        max_header_bytes: settings.limits.max_header_bytes.as_usize(),
        max_headers: usize::from(settings.limits.max_headers),
        open: OpenUpstream::resized(before, settings.limits.max_upstream_connections),
    }))
}
