//! Connections before they become calls: the TLS endpoint on TCP, and the administrators' Unix socket.
//!
//! How the first proves who it is, and finds out who calls, is [`Handshakes`]' affair. Accepting never waits for those who
//! are connected already: [`places`] says who has to go instead.

mod connection;
mod places;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use svidecar_api::transport::{authority::Lenient, uds};
use svidecar_authority::tls;
use svidecar_code::Code;
use svidecar_process::{
    Tasks, Throttle,
    accept::{self, Comes},
    clock, descriptors,
    memory::{self, Pressure},
    source::Source,
    waiting::Guest,
};
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    sync::mpsc,
    time::{self, Instant},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::connection::Connection;
use self::places::{Place, Places};
use super::handshake::{Handshakes, Proven};
use crate::{peer::Peer, state::State, telemetry};

/// Connections that wait to be taken over by the gRPC server, which does so at once.
const READY: usize = 64;

/// How long a peer may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who comes to the TLS endpoint.
const AGENTS: Comes = Comes::Anybody { whose: "agent" };

/// A connection of the TLS endpoint.
pub type Remote = Connection<TlsStream<TcpStream>>;

/// The connections of the TLS endpoint whose handshake succeeded, by who is at the other end.
pub struct Incoming<S> {
    /// Those who have shown an SVID.
    pub members: S,
    /// Those who have not.
    pub strangers: S,
}

/// What everybody passes who comes by TCP.
pub struct Door {
    state: Arc<State>,
    handshakes: Handshakes,
    places: Places,
}

/// Where connections go whose handshake succeeded.
struct Ways {
    to_members: mpsc::Sender<io::Result<Remote>>,
    to_strangers: mpsc::Sender<io::Result<Remote>>,
}

impl Door {
    /// Where all shake hands in the same way.
    pub fn new(state: Arc<State>, handshakes: Handshakes) -> Self {
        Self { state, handshakes, places: Places::new(descriptors::table().for_connections()) }
    }

    /// The connections of the TLS endpoint, until `shutdown`.
    pub fn incoming(
        self,
        listener: TcpListener,
        vital: &Tasks,
        running: TaskTracker,
        shutdown: CancellationToken,
    ) -> Incoming<ReceiverStream<io::Result<Remote>>> {
        let (to_members, members) = mpsc::channel(READY);
        let (to_strangers, strangers) = mpsc::channel(READY);
        let shared = Arc::new((self, Ways { to_members, to_strangers }));
        let watched = Arc::clone(&shared);
        let tell = move |pressure| {
            if pressure == Pressure::Cut {
                watched.0.places.cut_greediest();
            }
        };
        vital.spawn_until_done("memory", memory::watch(shutdown.clone(), tell));
        vital.spawn("accepting of connections", async move {
            loop {
                let (stream, address) = tokio::select! {
                    () = shutdown.cancelled() => return,
                    accepted = accept::tcp(&listener, AGENTS) => accepted,
                };
                let guest = shared.0.places.handshakes.enter(Source::from(address.ip()));
                let shared = Arc::clone(&shared);
                running.spawn(async move { shared.0.enter(stream, address, guest, &shared.1).await });
            }
        });
        Incoming { members: ReceiverStream::new(members), strangers: ReceiverStream::new(strangers) }
    }

    /// Finishes the handshake, and hands the connection to the server that is for such a peer.
    async fn enter(&self, stream: TcpStream, address: SocketAddr, mut guest: Guest<Source>, ways: &Ways) {
        let (stream, Proven { svid, membership }) =
            match shake_hands(&self.handshakes, stream, &mut guest).await {
                Ok(accepted) => accepted,
                Err(unfinished) => return unfinished.report(address, &self.state.strangers),
            };
        let place = self.places.of(&self.state, Source::from(address.ip()), svid.as_deref()).await;
        drop(guest);
        let peer = Peer::Remote { address, svid, membership };
        // Nobody receives any more when the server is stopping.
        match place {
            Some(Place::Member(share, place)) => {
                drop(ways.to_members.send(Ok(Connection::of_member(stream, peer, (share, place)))).await);
            }
            Some(Place::Stranger(place)) => {
                drop(ways.to_strangers.send(Ok(Connection::of_stranger(stream, peer, place))).await);
            }
            None => self.places.refused(&peer),
        }
    }
}

/// Why a handshake was not finished.
enum Unfinished {
    /// It took too long.
    Late,
    /// Its place went to another.
    Shed,
    /// One of the two sides gave up.
    Failed(io::Error),
}

async fn shake_hands(
    handshakes: &Handshakes,
    stream: TcpStream,
    guest: &mut Guest<Source>,
) -> Result<(TlsStream<TcpStream>, Proven), Unfinished> {
    stream.set_nodelay(true).map_err(Unfinished::Failed)?;
    let deadline = clock::timer() + HANDSHAKE_TIMEOUT;
    within(deadline, guest, stream.peek(&mut [0])).await?;
    guest.spoke();
    within(deadline, guest, handshakes.accept(stream)).await
}

/// Waits for a step of a handshake, as long as it may take.
async fn within<T>(
    deadline: Instant,
    guest: &mut Guest<Source>,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Unfinished> {
    tokio::select! {
        done = time::timeout_at(deadline, step) => match done {
            Ok(outcome) => outcome.map_err(Unfinished::Failed),
            Err(_) => Err(Unfinished::Late),
        },
        () = guest.evicted() => Err(Unfinished::Shed),
    }
}

impl Unfinished {
    fn report(self, address: SocketAddr, strangers: &Throttle<Source>) {
        let leave = || strangers.leave_for(address.ip().into(), clock::monotonic());
        match self {
            Self::Shed => telemetry::shed("handshake"),
            Self::Late => {
                let Some(leave) = leave() else { return };
                let (code, kept_back) = (Code::HandshakeTimeout.name(), leave.kept_back);
                tracing::warn!(peer = %address, code, kept_back, "TLS handshake took over 10 seconds");
            }
            // A port check connects and says nothing; that is not worth a line.
            Self::Failed(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Self::Failed(error) => {
                let Some(leave) = leave() else { return };
                let (code, kept_back) = (tls::code_of(&error).name(), leave.kept_back);
                match tls::failure_in(&error) {
                    Some(reason) => {
                        tracing::warn!(peer = %address, code, error = %reason, kept_back, "refused a client certificate");
                    }
                    None => {
                        tracing::warn!(peer = %address, code, %error, kept_back, "TLS handshake failed");
                    }
                }
            }
        }
    }
}

/// The connections of the administrators' socket.
pub fn local_incoming(
    listener: uds::Listener,
) -> impl Stream<Item = io::Result<Connection<Lenient<UnixStream>>>> + Send {
    listener.incoming().map(|stream| {
        let stream = stream?;
        let credentials = stream.peer_cred()?;
        let peer = Peer::Local { uid: credentials.uid(), pid: credentials.pid() };
        Ok(Connection::local(Lenient::new(stream), peer))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use svidecar_authority::tls::{NoIdentity, SpiffeVerifier, Versions, authorize};
    use tokio::io::AsyncWriteExt as _;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    async fn code_of(bytes: &'static [u8]) -> Code {
        let verifier = SpiffeVerifier::new(Arc::default, authorize::any());
        let config = tls::server_config(NoIdentity, verifier, &[b"h2"], Versions::Tls13).unwrap();
        let (mut client, server) = tokio::io::duplex(4096);
        let send = async {
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            client
        };
        let (_client, accepted) = tokio::join!(send, TlsAcceptor::from(Arc::new(config)).accept(server));
        tls::code_of(&accepted.err().unwrap())
    }

    #[tokio::test]
    async fn who_does_not_speak_tls_is_told_apart() {
        assert_eq!(code_of(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await, "peer_spoke_plaintext");
        assert_eq!(code_of(b"\x16\x03\x01").await, "peer_closed");
        assert_eq!(code_of(b"\x15\x03\x03\x00\x02\x02\x28").await, "peer_rejected_us");
    }
}
