//! The handshake, by rustls' unbuffered connections, until the records are ours.
//!
//! rustls is handed whole records, one more each time that it asks, so that none of those behind its last message is
//! touched. A session that rustls resumed is judged before a byte of our answer leaves.

use std::{io, sync::Arc};

use rustls::{
    CommonState, ContentType, Error, ExtractedSecrets, HandshakeKind, InvalidMessage, PeerMisbehaved,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{Accepted, Acceptor, ClientHello, ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use svidecar_authority::tls::{ResumingClient, ResumingServer};
use svidecar_process::clock;

use super::{
    after::{AfterHandshake, Side},
    record::{self, Keys},
    stream::{Reading, TlsStream},
};
use crate::io::{self as bytes, Buffer, Socket};

/// Most bytes of the other side that wait for the rest of a handshake message.
const MOST_WAITING: usize = 128 * 1024;

/// The longest server name that is kept for a log line, in characters.
const MAX_SERVER_NAME: usize = 255;

/// What two ends may agree to speak (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2 between two svidecars: with our ways to carry TCP and HTTP/1.1.
    Svidecar,
    /// HTTP/2.
    Http2,
    /// HTTP/1.1.
    Http1,
}

impl Alpn {
    /// Its name in the handshake.
    #[must_use]
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Svidecar => b"svidecar/1",
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }

    /// What a name in the handshake means.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        [Self::Svidecar, Self::Http2, Self::Http1].into_iter().find(|known| known.name() == name)
    }
}

/// A finished handshake.
pub struct Handshaken {
    /// The encrypted connection.
    pub stream: TlsStream,
    /// The chain of the other side, leaf first, as the verifier accepted it.
    pub chain: Vec<CertificateDer<'static>>,
    /// What both agreed to speak.
    pub alpn: Option<Alpn>,
    /// Whether a session was resumed. Its chain was verified again.
    pub resumed: bool,
    /// The server name that the client asked for.
    pub server_name: Option<String>,
}

/// A handshake that failed.
#[derive(Debug)]
pub struct Failed {
    /// Why: with rustls' own error inside when it was not the transport.
    pub error: io::Error,
    /// The server name that the client asked for, as far as it came.
    pub server_name: Option<String>,
    /// Whether it was a session to be resumed that was refused; a full handshake may still be accepted.
    pub resumed: bool,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self { error, server_name: None, resumed: false }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error).into()
    }
}

/// Accepts a client. `incoming` is what was read already; `choose` picks the configuration by what the client asks for.
///
/// # Errors
/// Why there is no connection.
pub async fn accept(
    mut socket: Socket,
    mut incoming: Buffer,
    choose: impl FnOnce(&ClientHello<'_>) -> Arc<ResumingServer>,
) -> Result<Handshaken, Failed> {
    let (mut acceptor, mut seen) = (Acceptor::default(), 0);
    let (server, server_name) = loop {
        let new = incoming.filled().get(seen..).unwrap_or_default();
        seen = incoming.len();
        match read_hello(&mut acceptor, new) {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name().map(|name| name.chars().take(MAX_SERVER_NAME).collect());
                break (choose(&hello), name);
            }
            Ok(None) => fill(&mut socket, &mut incoming).await?,
            Err((error, alert)) => {
                // The error is told in any case.
                let _ = bytes::send(&mut socket, &alert).await;
                return Err(error.into());
            }
        }
    };
    match accept_by(socket, incoming, &server).await {
        Ok(done) => Ok(Handshaken { server_name, ..done }),
        Err(failed) => Err(Failed { server_name, ..failed }),
    }
}

async fn accept_by(socket: Socket, incoming: Buffer, server: &ResumingServer) -> Result<Handshaken, Failed> {
    let connection = UnbufferedServerConnection::new(server.config())?;
    let hello = incoming.filled().to_vec();
    let mut handshake = Handshake::new(socket, incoming, connection);
    handshake.advance().await?;
    let mut judged = false;
    if handshake.is_resumed() {
        judged = handshake.judge(|chain, now| server.accepts(chain, now)).is_ok();
        if !judged {
            // Nothing of the answer has left: begin again, without the session. If it was not the session alone that
            // is too old, the full handshake says what is wrong.
            let connection = UnbufferedServerConnection::new(server.full())?;
            let mut incoming = Buffer::new();
            incoming.extend(&hello);
            handshake = Handshake::new(handshake.socket, incoming, connection);
        }
    }
    handshake.run().await?;
    // Only a client that was asked for a second hello gets here unjudged.
    if handshake.is_resumed() && !judged {
        handshake.judge(|chain, now| server.accepts(chain, now))?;
    }
    handshake.finish()
}

/// Connects to a server, offering `alpn` in this order.
///
/// # Errors
/// Why there is no connection. When it was a resumed session that was refused, the next handshake is a full one.
pub async fn connect(
    socket: Socket,
    client: &ResumingClient,
    name: ServerName<'static>,
    alpn: &[Alpn],
) -> Result<Handshaken, Failed> {
    let names = alpn.iter().map(|alpn| alpn.name().to_vec()).collect();
    let connection = UnbufferedClientConnection::new_with_alpn(client.config(), name, names)?;
    let mut handshake = Handshake::new(socket, Buffer::new(), connection);
    handshake.run().await?;
    if handshake.is_resumed()
        && let Err(error) = handshake.judge(|chain, now| client.accepts(chain, now))
    {
        client.forget();
        return Err(Failed { resumed: true, ..error.into() });
    }
    let mut done = handshake.finish()?;
    // The last flight leaves with the first request.
    done.stream.owes_flight = true;
    Ok(done)
}

/// The ClientHello, once all of it was in the bytes that came; or the error, and the alert to answer it with. `rest` is what
/// is new of them, so that a hello in a thousand pieces is not read a thousand times.
fn read_hello(acceptor: &mut Acceptor, mut rest: &[u8]) -> Result<Option<Accepted>, (Error, Vec<u8>)> {
    while !rest.is_empty() {
        // Reading from memory fails only when more came than any ClientHello has.
        if acceptor.read_tls(&mut rest).is_err() {
            return Err((Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge), Vec::new()));
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(accepted) => return Ok(accepted),
            Err((error, mut alert)) => {
                let mut sealed = Vec::new();
                // Writing to memory does not fail.
                let _ = alert.write_all(&mut sealed);
                return Err((error, sealed));
            }
        }
    }
    Ok(None)
}

/// Waits for more bytes.
async fn fill(socket: &mut Socket, incoming: &mut Buffer) -> io::Result<()> {
    if incoming.len() > MOST_WAITING {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge),
        ));
    }
    if bytes::fill(socket, incoming, MOST_WAITING).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// What rustls' two kinds of connection have in common.
trait Connection: Sized {
    type Data;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn facts(&self) -> &CommonState;

    fn into_secrets(self) -> Result<(ExtractedSecrets, Side), Error>;
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn facts(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Side), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, side)| (secrets, Side::Client(side)))
    }
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn facts(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Side), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, side)| (secrets, Side::Server(side)))
    }
}

/// A handshake on its way.
struct Handshake<C> {
    socket: Socket,
    incoming: Buffer,
    outgoing: Buffer,
    /// Bytes at the front of `incoming` that rustls has seen and holds on to.
    seen: usize,
    connection: Box<C>,
}

impl<C: Connection> Handshake<C> {
    fn new(socket: Socket, incoming: Buffer, connection: C) -> Self {
        Self { socket, incoming, outgoing: Buffer::new(), seen: 0, connection: Box::new(connection) }
    }

    /// Goes on to the end.
    async fn run(&mut self) -> Result<(), Failed> {
        while !self.advance().await? {
            bytes::send(&mut self.socket, self.outgoing.filled()).await?;
            self.outgoing.clear();
            fill(&mut self.socket, &mut self.incoming).await?;
        }
        Ok(())
    }

    /// Goes on as far as what has come allows. Whether that was the end.
    async fn advance(&mut self) -> Result<bool, Failed> {
        let error = match self.process() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        self.take_alert();
        // The error is told in any case.
        let _ = bytes::send(&mut self.socket, self.outgoing.filled()).await;
        Err(error.into())
    }

    /// What rustls still has to say to the other side. It must not be asked for more: it would look at the broken record
    /// again.
    fn take_alert(&mut self) {
        while self.connection.facts().wants_write() {
            let records = self.incoming.filled_mut().get_mut(..self.seen).unwrap_or_default();
            let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut message)), .. } =
                self.connection.process(records)
            else {
                return;
            };
            if encode(&mut message, &mut self.outgoing).is_err() {
                return;
            }
        }
    }

    fn process(&mut self) -> Result<bool, Error> {
        loop {
            let records = self.incoming.filled_mut().get_mut(..self.seen).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process(records);
            let next = match state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    encode(&mut message, &mut self.outgoing).map(|()| Next::More)
                }
                // It is sent when rustls has no more to say.
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    Ok(Next::More)
                }
                Ok(ConnectionState::BlockedHandshake) => Ok(Next::Record),
                Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::End),
                Ok(_) => Err(Error::HandshakeNotComplete),
                Err(error) => Err(error),
            };
            // Also after an error: rustls remembers where in the rest its messages are.
            self.incoming.consume(discard);
            self.seen -= discard.min(self.seen);
            match next? {
                Next::More => {}
                Next::Record => match next_record(self.incoming.filled(), self.seen) {
                    Some(seen) => self.seen = seen,
                    None => return Ok(false),
                },
                Next::End if self.seen == 0 => return Ok(true),
                // No message may span the change of keys (RFC 8446 §5.1).
                Next::End => return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into()),
            }
        }
    }

    fn is_resumed(&self) -> bool {
        self.connection.facts().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn judge(
        &self,
        accepts: impl FnOnce(&[CertificateDer<'_>], UnixTime) -> Result<(), Error>,
    ) -> Result<(), Error> {
        accepts(self.connection.facts().peer_certificates().unwrap_or_default(), clock::unix())
    }

    fn finish(self) -> Result<Handshaken, Failed> {
        let resumed = self.is_resumed();
        let facts = self.connection.facts();
        let chain = facts.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let alpn = facts.alpn_protocol().and_then(Alpn::named);
        let (secrets, side) = self.connection.into_secrets()?;
        let unknown = || Error::General("the record layer does not know the cipher".to_owned());
        let stream = TlsStream {
            socket: self.socket,
            incoming: self.incoming,
            outgoing: self.outgoing,
            filling: None,
            opening: Keys::new(secrets.rx).ok_or_else(unknown)?,
            sealing: Keys::new(secrets.tx).ok_or_else(unknown)?,
            after: AfterHandshake::new(side),
            owes_flight: false,
            reading: Reading::Open,
            is_closed: false,
        };
        Ok(Handshaken { stream, chain, alpn, resumed, server_name: None })
    }
}

/// What rustls wants.
enum Next {
    /// To be asked again.
    More,
    /// One more record.
    Record,
    /// Nothing: the handshake is over.
    End,
}

/// Appends what rustls wants to send.
fn encode<D>(message: &mut EncodeTlsData<'_, D>, outgoing: &mut Buffer) -> Result<(), Error> {
    let mut least = 1;
    loop {
        match message.encode(outgoing.space(least)) {
            Ok(count) => {
                outgoing.commit(count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) if size.required_size > least => {
                least = size.required_size
            }
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

/// Where the record behind the first `seen` bytes ends, if all of it is there. What cannot be a record is for rustls to
/// refuse.
fn next_record(bytes: &[u8], seen: usize) -> Option<usize> {
    let rest = bytes.get(seen..).filter(|rest| !rest.is_empty())?;
    let kind = rest.first().copied().map(ContentType::from);
    let is_record = !matches!(kind, None | Some(ContentType::Unknown(_)));
    match record::length(rest) {
        Some(length) if is_record && length <= record::HEADER + record::MAX_SEALED => {
            (length <= rest.len()).then_some(seen + length)
        }
        None if is_record => None,
        _ => Some(bytes.len()),
    }
}
