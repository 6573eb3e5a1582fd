//! Opens one connection to one endpoint: TCP or Unix, and mTLS toward peers; within the upstream's timeouts, which are
//! nowhere else.
//!
//! What is spoken over it is the caller's.

use std::{cell::Cell, io, time::Duration};

use rustls::pki_types::ServerName;
use rustls_pki_types::UnixTime;
use svidecar_code::Code;
use svidecar_config::address::Address;
use svidecar_id::SpiffeId;
use tokio::{
    net::{TcpStream, UnixStream},
    time::Instant,
};
use tracing::{debug, warn};

use crate::{
    io::{Socket, Transport, tls::Alpn},
    message::refusal::Refusal,
    plan::upstream::{UpstreamSpec, UpstreamTls},
    runtime::{
        handshake::{self, HandshakeFailure, Remedy},
        peer::Peer,
        shared::Shared,
        throttle::Leave,
    },
    upstream::resolve::Resolver,
};

/// A server that refused our protocols is asked again after this time; it may have become a svidecar.
const REFUSAL_LASTS: Duration = Duration::from_secs(600);

/// Attempts for one connection: the first, one without ALPN, one with a full handshake.
const MOST_ATTEMPTS: usize = 3;

/// What to offer in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1, over a shared connection where the other side is a svidecar.
    Http1,
    /// HTTP/2, or HTTP/1.1 if the server has no HTTP/2.
    Http2,
    /// Bytes, over a shared connection where the other side is a svidecar; otherwise over this one.
    Bytes,
    /// Bytes, over an HTTP/2 connection of anyone who knows HBONE.
    Hbone,
}

impl Offer {
    const fn alpn(self) -> &'static [Alpn] {
        match self {
            Self::Http1 => &[Alpn::Svidecar, Alpn::Http1],
            Self::Http2 => &[Alpn::Svidecar, Alpn::Http2, Alpn::Http1],
            Self::Bytes => &[Alpn::Svidecar],
            Self::Hbone => &[Alpn::Http2],
        }
    }
}

/// What a worker remembers of an endpoint: whether it refuses handshakes that offer it protocols it does not know.
#[derive(Default)]
pub struct AlpnMemory(Cell<Option<Instant>>);

impl AlpnMemory {
    fn refuses(&self, now: Instant) -> bool {
        self.0.get().is_some_and(|since| now.duration_since(since) < REFUSAL_LASTS)
    }
}

/// A connection that nobody has used yet.
pub struct Connected {
    /// The bytes.
    pub stream: Transport,
    /// What was agreed on with a peer.
    pub alpn: Option<Alpn>,
    /// Who answered, when the connection is mTLS.
    pub server: Option<Peer>,
    /// The address that was dialled.
    pub address: String,
}

/// Opens one connection.
///
/// # Errors
/// What to answer to who asked.
pub async fn connect(
    shared: &Shared,
    spec: &UpstreamSpec,
    endpoint: &Address,
    resolver: Option<&Resolver>,
    offer: Offer,
    memory: &AlpnMemory,
) -> Result<Connected, Refusal> {
    let Some(tls) = &spec.tls else {
        let (socket, address) = reach(spec, endpoint, resolver).await?;
        return Ok(Connected { stream: socket.into(), alpn: None, server: None, address });
    };
    require_identity(shared, spec)?;
    let mut attempt = 1;
    loop {
        let (socket, address) = reach(spec, endpoint, resolver).await?;
        let failure = match authenticate(spec, tls, socket, endpoint, offer, memory).await {
            Ok(authenticated) => {
                shared.note_server(&spec.name, &address, authenticated.peer.id());
                let handshake::Authenticated { stream, peer, alpn, .. } = authenticated;
                return Ok(Connected { stream: stream.into(), alpn, server: Some(peer), address });
            }
            Err(failure) => failure,
        };
        let goes_on = attempt < MOST_ATTEMPTS
            && match failure.remedy {
                Some(Remedy::NoAlpn) if offer == Offer::Bytes => {
                    memory.0.set(Some(Instant::now()));
                    true
                }
                Some(Remedy::FullHandshake) => true,
                _ => false,
            };
        if !goes_on {
            return Err(refused(shared, spec, endpoint, &address, &failure));
        }
        attempt += 1;
        debug!(upstream = %spec.name, address, error = %failure, "Connecting once more, in another way");
    }
}

async fn authenticate(
    spec: &UpstreamSpec,
    tls: &UpstreamTls,
    socket: Socket,
    endpoint: &Address,
    offer: Offer,
    memory: &AlpnMemory,
) -> Result<handshake::Authenticated, HandshakeFailure> {
    let plainly = offer == Offer::Bytes && memory.refuses(Instant::now());
    let alpn = if plainly { &[] } else { offer.alpn() };
    handshake::outbound(socket, &tls.client, server_name(endpoint), alpn, spec.handshake_timeout).await
}

/// Without an SVID every server would refuse us with an alert that explains nothing.
fn require_identity(shared: &Shared, spec: &UpstreamSpec) -> Result<(), Refusal> {
    let snapshot = shared.current.load();
    let identity = &snapshot.identity;
    if identity.valid_svid(UnixTime::now()).is_some() {
        return Ok(());
    }
    let (state, why) = (identity.status.state.code().name(), &identity.status.detail);
    let detail = format!("there is no valid SVID to connect to `{}` with ({state}: {why})", spec.name);
    Err(Refusal::new(Code::NoIdentity, detail))
}

/// The socket, and the address that it leads to.
async fn reach(
    spec: &UpstreamSpec,
    endpoint: &Address,
    resolver: Option<&Resolver>,
) -> Result<(Socket, String), Refusal> {
    match tokio::time::timeout(spec.connect_timeout, dial(endpoint, resolver)).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => {
            if let Some(resolver) = resolver {
                resolver.doubt();
            }
            Err(unreachable(spec, endpoint, &error))
        }
        Err(_) => {
            let detail =
                format!("`{}` at {endpoint} did not accept within {:?}", spec.name, spec.connect_timeout);
            Err(Refusal::new(Code::UpstreamConnectTimeout, detail))
        }
    }
}

async fn dial(endpoint: &Address, resolver: Option<&Resolver>) -> io::Result<(Socket, String)> {
    let Some(resolver) = resolver else {
        let Address::Unix(path) = endpoint else {
            return Err(io::Error::other("a name without a resolver"));
        };
        return Ok((Socket::unix(UnixStream::connect(path).await?), endpoint.to_string()));
    };
    let mut last = None;
    for address in resolver.addresses().await.map_err(|error| Unresolved(error).into_io())? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok((Socket::dialled(stream), address.to_string())),
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

fn unreachable(spec: &UpstreamSpec, endpoint: &Address, error: &io::Error) -> Refusal {
    let unresolved = error.get_ref().is_some_and(|inner| inner.is::<Unresolved>());
    let code = match error.kind() {
        _ if unresolved => Code::UpstreamUnresolved,
        io::ErrorKind::ConnectionRefused => Code::UpstreamRefused,
        _ => Code::UpstreamUnreachable,
    };
    let hint = match (spec.tls.is_some(), error.kind()) {
        (false, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => "; is the app running there?",
        _ => "",
    };
    let detail = format!("cannot connect to `{}` at {endpoint}: {error}{hint}", spec.name);
    Refusal::new(code, detail)
}

/// One line with both sides' facts, and what to answer.
fn refused(
    shared: &Shared,
    spec: &UpstreamSpec,
    endpoint: &Address,
    address: &str,
    failure: &HandshakeFailure,
) -> Refusal {
    if let Some(Leave { kept_back }) = shared.throttle.leave(std::time::Instant::now()) {
        warn!(
            upstream = %spec.name,
            endpoint = %endpoint,
            address,
            code = failure.code.name(),
            presented_id = failure.presented.as_ref().map(SpiffeId::as_str),
            error = %failure,
            kept_back,
            "The mTLS handshake with the server failed"
        );
    }
    let detail = format!("`{}` at {endpoint} ({address}): {failure}", spec.name);
    Refusal::new(failure.code, detail)
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
