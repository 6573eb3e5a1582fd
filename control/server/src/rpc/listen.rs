//! Connections before they become calls: the TLS endpoint on TCP, and the administrators' Unix socket.
//!
//! How the first proves who it is, and finds out who calls, is [`Handshakes`]' affair.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::StreamExt as _;
use svidecar_api::transport::{authority::Lenient, uds};
use svidecar_authority::tls;
use svidecar_code::Code;
use svidecar_process::{
    accept::{self, Comes},
    descriptors,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected;

use super::handshake::Handshakes;
use crate::peer::Peer;

/// Connections at the same time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 20_000;

/// Handshakes at the same time, so that a flood of them leaves the connected agents their share.
const MAX_HANDSHAKES: usize = 256;

/// How long a peer may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who comes to the TLS endpoint.
const AGENTS: Comes = Comes::Anybody { whose: "agent" };

/// A connection with what is known about its other end.
pub struct Connection<S> {
    stream: S,
    peer: Peer,
    /// Given back when the connection ends.
    _slot: Option<OwnedSemaphorePermit>,
}

/// The connections of the TLS endpoint whose handshake succeeded.
pub fn tls_incoming(
    listener: TcpListener,
    handshakes: Handshakes,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>>>> + use<> {
    let (sender, receiver) = mpsc::channel(MAX_HANDSHAKES);
    let (handshakes, running) = (Arc::new(handshakes), tasks.clone());
    tasks.spawn(async move {
        let connections =
            Arc::new(Semaphore::new(MAX_CONNECTIONS.min(descriptors::table().for_connections())));
        let slots = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = accept(&listener, &connections, &slots) => accepted,
            };
            let Some((stream, address, connection, handshake)) = accepted else { continue };
            let (handshakes, sender) = (Arc::clone(&handshakes), sender.clone());
            running.spawn(async move {
                let stream = shake_hands(&handshakes, stream, address).await;
                drop(handshake);
                if let Some((stream, peer)) = stream {
                    // Nobody receives any more when the server is stopping.
                    drop(sender.send(Ok(Connection { stream, peer, _slot: Some(connection) })).await);
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    handshakes: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit, OwnedSemaphorePermit)> {
    let connection = Arc::clone(connections).acquire_owned().await.ok()?;
    let handshake = Arc::clone(handshakes).acquire_owned().await.ok()?;
    let (stream, address) = accept::tcp(listener, AGENTS).await;
    stream.set_nodelay(true).ok()?;
    Some((stream, address, connection, handshake))
}

async fn shake_hands(
    handshakes: &Handshakes,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    let (stream, svid) = match time::timeout(HANDSHAKE_TIMEOUT, handshakes.accept(stream)).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            // A port check connects and says nothing; that is not worth a line.
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return None;
            }
            let code = tls::code_of(&error).name();
            match tls::failure_in(&error) {
                Some(reason) => {
                    tracing::warn!(peer = %address, code, error = %reason, "refused a client certificate");
                }
                None => tracing::warn!(peer = %address, code, %error, "TLS handshake failed"),
            }
            return None;
        }
        Err(_) => {
            tracing::warn!(peer = %address, code = Code::HandshakeTimeout.name(), "TLS handshake took over 10 seconds");
            return None;
        }
    };
    Some((stream, Peer::Remote { address, svid: svid.map(Arc::new) }))
}

/// The connections of the administrators' socket.
pub fn local_incoming(
    listener: uds::Listener,
) -> impl Stream<Item = io::Result<Connection<Lenient<UnixStream>>>> + Send {
    listener.incoming().map(|stream| {
        let stream = stream?;
        let credentials = stream.peer_cred()?;
        let peer = Peer::Local { uid: credentials.uid(), pid: credentials.pid() };
        Ok(Connection { stream: Lenient::new(stream), peer, _slot: None })
    })
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
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
