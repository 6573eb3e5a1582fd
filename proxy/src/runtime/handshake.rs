//! TLS handshakes in both directions, each under a deadline, and what to say when one fails.
//!
//! The verifiers are the authority's; this module runs them and keeps both sides' facts of a failure. It decides
//! nothing about what a peer may do.

use std::{fmt, io, time::Duration};

use rustls::{AlertDescription, pki_types::ServerName};
use svidecar_authority::{
    tls::{ResumingClient, code_of, failure_of},
    x509::X509Error,
};
use svidecar_code::Code;
use svidecar_id::SpiffeId;

use crate::{
    io::{
        self as bytes, Buffer, Socket, TlsStream,
        tls::{self, Alpn, Failed, Handshaken},
    },
    plan::tls::Offers,
    runtime::peer::Peer,
};

/// The content type of a TLS handshake record (RFC 8446 §5.1): the first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client that spoke HTTP to a TLS port gets to read.
const PLAINTEXT_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 76\r\n\r\nThis port speaks mutual TLS with SPIFFE identities; plain HTTP got no answer";

/// Most bytes of a client to be read before they are looked at.
const MAX_FIRST_READ: usize = 16 * 1024;

/// A finished handshake, in either direction.
pub struct Authenticated {
    /// The encrypted connection.
    pub stream: TlsStream,
    /// Who is at the other end.
    pub peer: Peer,
    /// What both agreed to speak.
    pub alpn: Option<Alpn>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The server name that the client asked for.
    pub sni: Option<String>,
}

/// Authenticates a peer that has connected to us. `spoke` hears when its first bytes have come.
///
/// # Errors
/// Why there is no authenticated peer.
pub async fn inbound(
    mut socket: Socket,
    offers: &Offers,
    timeout: Duration,
    spoke: impl FnOnce(),
) -> Result<Authenticated, HandshakeFailure> {
    let accepting = async {
        let first = read_first(&mut socket).await?;
        spoke();
        let accepted = tls::accept(socket, first, |hello| offers.choose(hello)).await;
        authenticated(accepted, Side::Client)
    };
    match tokio::time::timeout(timeout, accepting).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeFailure::new(
            Code::HandshakeTimeout,
            format!("the peer did not finish the TLS handshake within {timeout:?}"),
        )),
    }
}

/// Authenticates a server that we have connected to, offering `alpn` in this order. Its ID is checked by the verifier in
/// `client`.
///
/// # Errors
/// Why the server is not who was expected.
pub async fn outbound(
    socket: Socket,
    client: &ResumingClient,
    name: ServerName<'static>,
    alpn: &[Alpn],
    timeout: Duration,
) -> Result<Authenticated, HandshakeFailure> {
    match tokio::time::timeout(timeout, tls::connect(socket, client, name, alpn)).await {
        Ok(connected) => authenticated(connected, Side::Server),
        Err(_) => Err(HandshakeFailure::new(
            Code::HandshakeTimeout,
            format!("the server did not finish the TLS handshake within {timeout:?}"),
        )),
    }
}

fn authenticated(
    handshake: Result<Handshaken, Failed>,
    side: Side,
) -> Result<Authenticated, HandshakeFailure> {
    match handshake {
        Ok(Handshaken { stream, chain, alpn, resumed, server_name }) => match Peer::new(chain) {
            Ok(peer) => Ok(Authenticated { stream, peer, alpn, resumed, sni: server_name }),
            Err(error) => Err(HandshakeFailure { sni: server_name, ..HandshakeFailure::from_x509(&error) }),
        },
        Err(Failed { error, server_name, resumed }) => {
            let remedy = if resumed { Some(Remedy::FullHandshake) } else { remedy_of(&error) };
            Err(HandshakeFailure { sni: server_name, remedy, ..explain(&error, side) })
        }
    }
}

fn remedy_of(error: &io::Error) -> Option<Remedy> {
    let refused = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    (rustls_error(error) == Some(&refused)).then_some(Remedy::NoAlpn)
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

/// The first bytes of a client. One that does not speak TLS is told so in words that its log will show.
async fn read_first(socket: &mut Socket) -> Result<Buffer, HandshakeFailure> {
    let mut first = Buffer::new();
    bytes::fill(socket, &mut first, MAX_FIRST_READ).await.map_err(|error| explain(&error, Side::Client))?;
    match first.filled() {
        [] => Err(closed_at_once()),
        [TLS_HANDSHAKE, ..] => Ok(first),
        [other, ..] => {
            if other.is_ascii_uppercase() {
                // Best effort: it failed anyway, and the close below says so too.
                let _ = bytes::send(socket, PLAINTEXT_ANSWER).await;
                let _ = bytes::shutdown(socket).await;
                discard(socket).await;
            }
            Err(spoke_plaintext(*other))
        }
    }
}

fn closed_at_once() -> HandshakeFailure {
    HandshakeFailure::new(
        Code::PeerClosed,
        "the peer closed the connection before it sent anything (a TCP health check does that)",
    )
}

fn spoke_plaintext(first: u8) -> HandshakeFailure {
    HandshakeFailure::new(
        Code::PeerSpokePlaintext,
        format!(
            "the peer's first byte was 0x{first:02x}, not a TLS handshake: it speaks plaintext to an mTLS port; \
             send its traffic through a sidecar"
        ),
    )
}

/// Why a handshake failed, with both sides' facts.
#[derive(Debug)]
pub struct HandshakeFailure {
    /// The stable code.
    pub code: Code,
    /// The sentence: expected, actual, what to do.
    pub detail: String,
    /// The ID that the peer presented, verified or not.
    pub presented: Option<SpiffeId>,
    /// The server name that the peer asked for.
    pub sni: Option<String>,
    /// What may work with the same server.
    pub remedy: Option<Remedy>,
}

/// What to try after a handshake that failed for a reason that is not final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A session was refused, perhaps because the server has a new SVID: the next handshake is a full one.
    FullHandshake,
    /// The server refused all protocols that were offered: offer none.
    NoAlpn,
}

impl HandshakeFailure {
    /// Of which nothing is known but what it is called, and a sentence.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), presented: None, sni: None, remedy: None }
    }

    /// What the verifier says of the other side's chain.
    #[must_use]
    pub fn from_x509(error: &X509Error) -> Self {
        Self { presented: error.presented_id().cloned(), ..Self::new(error.code(), error.to_string()) }
    }
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Reads a little of what the peer still sends, so that closing does not reset our answer away.
async fn discard(socket: &mut Socket) {
    let mut buffer = Buffer::new();
    for _ in 0..16 {
        match bytes::fill(socket, &mut buffer, MAX_FIRST_READ).await {
            Ok(count) if count > 0 => buffer.clear(),
            _ => return,
        }
    }
}

/// Whose certificate we look at.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// Turns what rustls says into what an operator needs to hear.
fn explain(error: &io::Error, side: Side) -> HandshakeFailure {
    if let Some(reason) = rustls_error(error).and_then(failure_of) {
        return HandshakeFailure::from_x509(reason);
    }
    let code = code_of(error);
    HandshakeFailure::new(code, words(code, error, side))
}

fn words(code: Code, error: &io::Error, side: Side) -> String {
    let other = match side {
        Side::Client => "peer",
        Side::Server => "server",
    };
    match (code, rustls_error(error)) {
        (Code::NoClientCert, _) => {
            "the peer presented no certificate; it must connect with its X.509-SVID, for example through a sidecar"
                .to_owned()
        }
        (_, Some(rustls::Error::AlertReceived(alert))) => {
            format!("the {other} ended the handshake with the alert {alert:?}{}", hint_for(*alert))
        }
        (Code::PeerSpokePlaintext, _) => format!("the {other} does not speak TLS there"),
        (Code::NoCommonProtocol, _) => format!("the {other} offers neither HTTP/1.1 nor HTTP/2 by ALPN"),
        (_, Some(rustls::Error::PeerIncompatible(why))) => {
            format!("the {other}'s TLS has nothing in common with ours ({why:?}); we speak TLS 1.3")
        }
        (_, Some(rustls::Error::General(why))) => why.clone(),
        (_, Some(tls)) => format!("the TLS handshake failed: {tls}"),
        (Code::PeerClosed, None) => format!(
            "the {other} closed the connection in the middle of the handshake; its own log says why it does not accept us"
        ),
        (_, None) => format!("the connection failed in the handshake: {error}"),
    }
}

/// What an alert usually means between members of trust domains.
const fn hint_for(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => {
            ": it does not trust the root of our SVID; its bundle for our trust domain is missing or old"
        }
        AlertDescription::CertificateExpired => ": it finds our SVID expired; compare the two clocks",
        AlertDescription::CertificateRequired => ": it wants a client certificate and we presented none",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => ": it does not accept our SPIFFE ID or its chain",
        AlertDescription::NoApplicationProtocol => ": it does not speak the protocol that we offered by ALPN",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
