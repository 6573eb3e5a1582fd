//! Opens one connection to one address: TCP or Unix, and mTLS toward peers; within the upstream's timeouts, which are
//! nowhere else.
//!
//! What is spoken over it is the caller's.

use std::{cell::Cell, fmt, future::Future, io, time::Duration};

use rustls::pki_types::ServerName;
use svidecar_code::Code;
use svidecar_config::address::Address;
use svidecar_id::SpiffeId;
use svidecar_process::{clock, descriptors, throttle::Leave};
use tokio::{
    net::{TcpStream, UnixStream},
    time::Instant,
};
use tracing::{debug, warn};

use super::{
    place::{Location, Place},
    resolve::Unresolved,
};
use crate::{
    io::{Socket, Transport, tls::Alpn},
    message::refusal::Refusal,
    plan::upstream::{UpstreamPlace, UpstreamSpec, UpstreamTls},
    runtime::{
        handshake::{self, HandshakeFailure, Remedy},
        peer::Peer,
        shared::Shared,
        shortage::ROOM_IS_MADE,
    },
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

/// What a worker remembers of an address: whether it refuses handshakes that offer it protocols it does not know.
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
    /// Its place among those that may be open to the upstream.
    pub place: UpstreamPlace,
}

/// Why there is no connection, or none that does what was wanted.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The address takes no connection. Another one of the same name may.
    Unreachable(Refusal),
    /// All else.
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let (Failure::Unreachable(refusal) | Failure::Refused(refusal)) = failure;
        refusal
    }
}

/// What is left of the time for a connection to be accepted. A lookup and all addresses that it gives share it.
pub struct Allowance(Duration);

impl Allowance {
    /// All of it.
    #[must_use]
    pub fn new(spec: &UpstreamSpec) -> Self {
        Self(spec.connect_timeout)
    }

    /// Spends some of it on waiting for `work`. `None` when there is nothing left.
    pub async fn spend<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let began = clock::monotonic();
        let done = tokio::time::timeout(self.0, work).await;
        self.0 = self.0.saturating_sub(clock::monotonic() - began);
        done.ok()
    }
}

/// Opens one connection. What it takes beyond the handshake comes out of `allowance`.
///
/// # Errors
/// What to answer to who asked.
pub async fn connect(
    shared: &Shared,
    place: &Place,
    offer: Offer,
    memory: &AlpnMemory,
    allowance: &mut Allowance,
) -> Result<Connected, Failure> {
    let spec = &place.spec;
    let slot = spec.open.place().ok_or_else(|| too_many(shared, spec))?;
    let mut socket = reach(shared, place, allowance).await?;
    let Some(tls) = &spec.tls else {
        return Ok(Connected { stream: socket.into(), alpn: None, server: None, place: slot });
    };
    let mut attempt = 1;
    loop {
        let failure = match authenticate(place, tls, socket, offer, memory).await {
            Ok(authenticated) => {
                let handshake::Authenticated { stream, peer, alpn, .. } = authenticated;
                shared.note_server(&spec.name, &place.location.to_string(), peer.id());
                return Ok(Connected { stream: stream.into(), alpn, server: Some(peer), place: slot });
            }
            Err(failure) => failure,
        };
        let goes_on = attempt < MOST_ATTEMPTS
            && match failure.remedy {
                Some(Remedy::NoAlpn) if offer == Offer::Bytes => {
                    memory.0.set(Some(clock::timer()));
                    true
                }
                Some(Remedy::FullHandshake) => true,
                _ => false,
            };
        if !goes_on {
            return Err(refused(shared, place, &failure).into());
        }
        attempt += 1;
        debug!(upstream = %spec.name, address = place.location.to_string(), error = %failure, "Connecting once more, in another way");
        socket = reach(shared, place, &mut Allowance::new(spec)).await?;
    }
}

async fn authenticate(
    place: &Place,
    tls: &UpstreamTls,
    socket: Socket,
    offer: Offer,
    memory: &AlpnMemory,
) -> Result<handshake::Authenticated, HandshakeFailure> {
    let plainly = offer == Offer::Bytes && memory.refuses(clock::timer());
    let alpn = if plainly { &[] } else { offer.alpn() };
    let timeout = place.spec.handshake_timeout;
    handshake::outbound(socket, &tls.client, server_name(&place.name), alpn, timeout).await
}

/// What to answer when no more connections may be opened.
fn too_many(shared: &Shared, spec: &UpstreamSpec) -> Refusal {
    let most = spec.open.most();
    let detail = format!(
        "all {most} connections to `{}` that limits.max_upstream_connections allows are open",
        spec.name
    );
    if let Some(Leave { kept_back }) = shared.throttle.leave(clock::monotonic()) {
        warn!(upstream = %spec.name, code = Code::TooManyUpstreamConnections.name(), kept_back, "{detail}");
    }
    Refusal::new(Code::TooManyUpstreamConnections, detail)
}

/// Without an SVID every server would refuse us with an alert that explains nothing.
///
/// # Errors
/// What to answer when mTLS is wanted and there is none.
pub fn require_identity(shared: &Shared, spec: &UpstreamSpec) -> Result<(), Refusal> {
    let snapshot = shared.current.load();
    let identity = &snapshot.identity;
    if spec.tls.is_none() || identity.valid_svid(clock::unix()).is_some() {
        return Ok(());
    }
    let (state, why) = (identity.status.state.code().name(), &identity.status.detail);
    let detail = format!("there is no valid SVID to connect to `{}` with ({state}: {why})", spec.name);
    Err(Refusal::new(Code::NoIdentity, detail))
}

/// A socket that the address has accepted.
async fn reach(shared: &Shared, place: &Place, allowance: &mut Allowance) -> Result<Socket, Failure> {
    let Place { spec, name, location } = place;
    match allowance.spend(dial_with_room(shared, location)).await {
        Some(Ok(Some(socket))) => Ok(socket),
        Some(Ok(None)) => {
            let detail = format!("no descriptor is left for a connection to `{}` at {name}", spec.name);
            Err(Refusal::new(Code::OutOfDescriptors, detail).into())
        }
        Some(Err(error)) => {
            let code = match error.kind() {
                io::ErrorKind::ConnectionRefused => Code::UpstreamRefused,
                _ => Code::UpstreamUnreachable,
            };
            let may_be_down =
                matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
            Err(Failure::Unreachable(unreachable(spec, name, code, &error, may_be_down)))
        }
        None => Err(too_slow(spec, name).into()),
    }
}

/// Once more when there was no descriptor for it and others have made room. `None`: they have not.
async fn dial_with_room(shared: &Shared, location: &Location) -> io::Result<Option<Socket>> {
    let mut was_refused = false;
    loop {
        match dial(location).await {
            Ok(socket) if descriptors::table().admits_dialled(&socket) => return Ok(Some(socket)),
            Err(error) if !descriptors::is_exhausted(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        shared.shortage.tell();
        if std::mem::replace(&mut was_refused, true) {
            descriptors::refused("upstream");
            return Ok(None);
        }
        tokio::time::sleep(ROOM_IS_MADE).await;
    }
}

async fn dial(location: &Location) -> io::Result<Socket> {
    match location {
        Location::Tcp(address) => TcpStream::connect(address).await.map(Socket::dialled),
        Location::Unix(path) => UnixStream::connect(path).await.map(Socket::unix),
    }
}

/// What to answer when a name has no address.
#[must_use]
pub fn unresolved(spec: &UpstreamSpec, name: &Address, error: &Unresolved) -> Refusal {
    unreachable(spec, name, Code::UpstreamUnresolved, error, true)
}

/// What to answer when nothing was accepted in time.
#[must_use]
pub fn too_slow(spec: &UpstreamSpec, name: &Address) -> Refusal {
    let detail = format!("`{}` at {name} did not accept within {:?}", spec.name, spec.connect_timeout);
    Refusal::new(Code::UpstreamConnectTimeout, detail)
}

fn unreachable(
    spec: &UpstreamSpec,
    name: &Address,
    code: Code,
    error: &dyn fmt::Display,
    may_be_down: bool,
) -> Refusal {
    let hint = if spec.tls.is_none() && may_be_down { "; is the app running there?" } else { "" };
    Refusal::new(code, format!("cannot connect to `{}` at {name}: {error}{hint}", spec.name))
}

/// One line with both sides' facts, and what to answer.
fn refused(shared: &Shared, place: &Place, failure: &HandshakeFailure) -> Refusal {
    let Place { spec, name, location } = place;
    if let Some(Leave { kept_back }) = shared.throttle.leave(clock::monotonic()) {
        warn!(
            upstream = %spec.name,
            endpoint = %name,
            address = location.to_string(),
            code = failure.code.name(),
            presented_id = failure.presented.as_ref().map(SpiffeId::as_str),
            error = %failure,
            kept_back,
            "The mTLS handshake with the server failed"
        );
    }
    Refusal::new(failure.code, format!("`{}` at {name} ({location}): {failure}", spec.name))
}

/// The name in the handshake. SPIFFE peers ignore it (the ID is what counts), but routers on the way read it.
fn server_name(name: &Address) -> ServerName<'static> {
    let host = match name {
        Address::Tcp { host, .. } => host.as_str(),
        Address::Unix(_) => "localhost",
    };
    ServerName::try_from(host.to_owned())
        .unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()))
}
