//! One connection to the server: TCP, TLS, and the check that it is the server.
//!
//! Owns timeouts and what is said when a connection fails. Who is trusted is an argument.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, client::danger::ServerCertVerifier};
use rustls_pki_types::ServerName;
use svidecar_api::bootstrap;
use svidecar_authority::{
    bundle::BundleSet,
    tls::{self, Identity, InsecureVerifier, NoIdentity, PinnedKey, SpiffeVerifier, Versions, authorize},
    x509::X509Error,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::address::Address;
use crate::{error::AgentError, svid::HeldSvid};

/// What is spoken.
const HTTP2: &[u8] = b"h2";

/// Longest wait for TCP and for TLS, each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that vanished without a word is noticed after 15 + 3 × 5 seconds. Probes are TCP's: SPIRE's
/// gRPC server takes HTTP/2 pings more often than every five minutes for an attack.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Where the bundles of the moment come from.
pub type BundleSource = Arc<dyn Fn() -> Arc<BundleSet> + Send + Sync>;

/// Which server is believed.
#[derive(Clone)]
pub enum Trust {
    /// One whose SVID the bundles of the moment verify.
    Live(BundleSource),
    /// One whose SVID this bundle verifies.
    Bundle(Arc<BundleSet>),
    /// One that has the private key of the public key with this SHA-256 (hex).
    Key(String),
    /// Any that claims the right ID. What it says has to be checked in another way.
    Anyone,
}

/// A channel that dials when used, and again after each loss.
pub fn lazy(address: &Address, trust: &Trust, identity: Arc<HeldSvid>) -> Channel {
    let (address, trust) = (address.clone(), trust.clone());
    let connector = tower::service_fn(move |_| {
        let (address, trust, identity) = (address.clone(), trust.clone(), Arc::clone(&identity));
        async move {
            let shown = Identity::new(identity.chain.clone(), identity.key.pkcs8_der());
            let shown = shown.map_err(io::Error::other)?;
            connect(&address, &trust, Some(shown)).await.map(TokioIo::new)
        }
    });
    endpoint().connect_with_connector_lazy(connector)
}

/// A channel for the first contact, without an identity of ours.
///
/// # Errors
/// [`AgentError::Unreachable`] with the reason; [`AgentError::Untrusted`] when the server's certificate is not one of
/// the authority that we trust.
pub async fn dial(address: &Address, trust: &Trust) -> Result<Channel, AgentError> {
    dial_with(address, trust, None).await
}

/// The same, with something to show that is not our SVID.
///
/// # Errors
/// As [`dial`].
pub async fn dial_as(address: &Address, trust: &Trust, identity: Identity) -> Result<Channel, AgentError> {
    dial_with(address, trust, Some(identity)).await
}

async fn dial_with(
    address: &Address,
    trust: &Trust,
    identity: Option<Identity>,
) -> Result<Channel, AgentError> {
    let (target, trust) = (address.clone(), trust.clone());
    let connector = tower::service_fn(move |_| {
        let (target, trust, identity) = (target.clone(), trust.clone(), identity.clone());
        async move { connect(&target, &trust, identity).await.map(TokioIo::new) }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| failed(address, &error))
}

/// The URI only names the authority in requests; the connector decides where to go.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://spire-server").connect_timeout(3 * CONNECT_TIMEOUT)
}

async fn connect(
    address: &Address,
    trust: &Trust,
    identity: Option<Identity>,
) -> io::Result<TlsStream<TcpStream>> {
    let config = config(address, trust, identity).map_err(io::Error::other)?;
    let tcp =
        tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((address.host.as_str(), address.port)))
            .await
            .map_err(|_| late("the TCP connection"))??;
    tcp.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
    // The name is only sent, never compared: SPIFFE goes by the ID.
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    tokio::time::timeout(CONNECT_TIMEOUT, TlsConnector::from(Arc::new(config)).connect(name, tcp))
        .await
        .map_err(|_| late("the TLS handshake"))?
}

fn late(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} took longer than {} s", CONNECT_TIMEOUT.as_secs()),
    )
}

fn config(address: &Address, trust: &Trust, identity: Option<Identity>) -> Result<ClientConfig, AgentError> {
    let server_id = address.server_id()?;
    let verified = |bundles: Arc<BundleSet>| {
        SpiffeVerifier::new(move || Arc::clone(&bundles), authorize::one_of([server_id.clone()]))
    };
    match trust {
        Trust::Live(source) => with(identity, verified(source()), &[HTTP2]),
        Trust::Bundle(bundles) => with(identity, verified(Arc::clone(bundles)), &[HTTP2]),
        Trust::Key(hash) => with(identity, PinnedKey::new(hash.clone()), &[HTTP2, &bootstrap::alpn(hash)]),
        Trust::Anyone => with(identity, InsecureVerifier::new(server_id), &[HTTP2]),
    }
}

fn with(
    identity: Option<Identity>,
    verifier: impl ServerCertVerifier + 'static,
    alpn: &[&[u8]],
) -> Result<ClientConfig, AgentError> {
    match identity {
        Some(identity) => tls::client_config(identity, verifier, alpn, Versions::Tls13),
        None => tls::client_config(NoIdentity, verifier, alpn, Versions::Tls13),
    }
    .map_err(|error| AgentError::Key(error.to_string()))
}

/// Makes an error of a failed call.
#[must_use]
pub fn call_error(address: &Address, what: &'static str, status: Status) -> AgentError {
    // A status without a source is the server's own answer; with one, the transport made it.
    match std::error::Error::source(&status) {
        Some(source) => failed(address, source),
        None => AgentError::Refused { what, status: Box::new(status) },
    }
}

/// Whether a call failed because its connection ended, not because there was none to be had, and not by the server's word.
pub fn ended_early(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    let has_cause = cause.is_some();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return false;
        }
        cause = error.source();
    }
    has_cause
}

/// What is at the bottom of a transport's error: a verifier's reason if there is one, else the innermost text.
fn failed(address: &Address, error: &(dyn std::error::Error + 'static)) -> AgentError {
    let server = address.to_string();
    if let Some(failure) = tls::failure_in(error) {
        let reason = failure.to_string();
        return match failure {
            // Another authority of the same name may have signed, too.
            X509Error::UntrustedRoot(_) | X509Error::BadSignature { .. } | X509Error::OtherKey { .. } => {
                AgentError::Untrusted { server, reason }
            }
            X509Error::IdNotAllowed { .. } => AgentError::Unreachable {
                server,
                reason: format!("{reason}; correct trust_domain or server_address"),
            },
            _ => AgentError::Unreachable { server, reason },
        };
    }
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let reason = innermost.to_string();
    // The transport keeps only the words. What the server does not like can only be what we showed it.
    if reason.contains("received fatal alert") {
        return AgentError::Doubted { reason, by_server: false };
    }
    AgentError::Unreachable { server, reason }
}
