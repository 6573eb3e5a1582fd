//! A connection with what is known about its other end, and what it holds while it lives.
//!
//! Owns the end of a stranger's connection: when it has been silent, when it is old, and when its place went to another.
//! A member's ends by itself, but where memory runs out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use svidecar_id::SpiffeId;
use svidecar_process::{clock, shares::Share, source::Source, waiting::Guest};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep},
};
use tonic::transport::server::Connected;

use crate::{peer::Peer, telemetry};

/// How long a stranger may say nothing.
const SILENCE: Duration = Duration::from_secs(15);

/// How long a stranger's connection may be there. To join takes less than a second of it.
const LIFE: Duration = Duration::from_secs(60);

/// See the module.
pub struct Connection<S> {
    stream: S,
    peer: Peer,
    stay: Stay,
}

/// What lets a connection be there.
enum Stay {
    /// The administrators' socket: nothing is counted.
    Local,
    /// Given back when the connection ends; lost only when memory runs out.
    Member { _share: Share<SpiffeId>, place: Guest<SpiffeId> },
    /// Boxed, so that others do not carry it.
    Stranger(Box<Visit>),
}

/// A stranger's stay.
struct Visit {
    place: Guest<Source>,
    silent_until: Pin<Box<Sleep>>,
    until: Pin<Box<Sleep>>,
}

impl<S> Connection<S> {
    /// One of the administrators' socket.
    pub const fn local(stream: S, peer: Peer) -> Self {
        Self { stream, peer, stay: Stay::Local }
    }

    /// One of a member of the trust domain.
    pub fn of_member(stream: S, peer: Peer, (share, place): (Share<SpiffeId>, Guest<SpiffeId>)) -> Self {
        Self { stream, peer, stay: Stay::Member { _share: share, place } }
    }

    /// One of somebody who has shown no certificate.
    pub fn of_stranger(stream: S, peer: Peer, place: Guest<Source>) -> Self {
        let visit =
            Visit { place, silent_until: Box::pin(time::sleep(SILENCE)), until: Box::pin(time::sleep(LIFE)) };
        Self { stream, peer, stay: Stay::Stranger(Box::new(visit)) }
    }

    /// An error once the connection has to end.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let visit = match &mut self.stay {
            Stay::Local => return Poll::Pending,
            Stay::Member { place, .. } => {
                ready!(std::pin::pin!(place.evicted()).poll(context));
                telemetry::shed("member");
                return Poll::Ready(io::Error::other("memory is short, and nobody has more connections"));
            }
            Stay::Stranger(visit) => visit,
        };
        if std::pin::pin!(visit.place.evicted()).poll(context).is_ready() {
            telemetry::shed("stranger");
            return Poll::Ready(io::Error::other("its place went to another"));
        }
        if visit.silent_until.as_mut().poll(context).is_ready()
            || visit.until.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "its time is over"));
        }
        Poll::Pending
    }

    fn heard(&mut self) {
        if let Stay::Stranger(visit) = &mut self.stay {
            visit.place.spoke();
            visit.silent_until.as_mut().reset(clock::timer() + SILENCE);
        }
    }
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
        if let Poll::Ready(error) = self.poll_over(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        // One who does not read what we write has its time as well.
        if let Poll::Ready(error) = self.poll_over(context) {
            return Poll::Ready(Err(error));
        }
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
        if let Poll::Ready(error) = self.poll_over(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{Ipv4Addr, SocketAddr};

    use svidecar_process::{shares::Shares, waiting::Waiting};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn stranger(places: &Waiting<Source>) -> (DuplexStream, Connection<DuplexStream>) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let (client, server) = tokio::io::duplex(64);
        let place = places.enter(Source::from(address.ip()));
        (
            client,
            Connection::of_stranger(server, Peer::Remote { address, svid: None, membership: None }, place),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stranger_goes_and_one_who_speaks_goes_later() {
        let places = Waiting::new(2);
        let began = clock::timer();
        let (_silent, mut connection) = stranger(&places);
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(clock::timer() - began, SILENCE);

        let (mut client, mut connection) = stranger(&places);
        let began = clock::timer();
        let speak = async {
            while client.write_u8(1).await.is_ok() {
                time::sleep(SILENCE / 2).await;
            }
        };
        let listen = async {
            let error = loop {
                if let Err(error) = connection.read_u8().await {
                    break error;
                }
            };
            drop(connection);
            error
        };
        let (error, ()) = tokio::join!(listen, speak);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(clock::timer() - began >= LIFE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_does_not_read_goes_too() {
        let (_deaf, mut connection) = stranger(&Waiting::new(1));
        let error = loop {
            if let Err(error) = connection.write_all(&[0; 64]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_is_cut_off_only_when_memory_runs_out() {
        let (open, shares) = (Waiting::new(usize::MAX), Shares::new(64));
        let id = SpiffeId::parse("spiffe://demo.org/agent").unwrap();
        let mut members: Vec<_> = (0..9)
            .map(|_| {
                let (client, server) = tokio::io::duplex(64);
                let place = (shares.take(id.clone(), 1).unwrap(), open.enter(id.clone()));
                (client, Connection::of_member(server, Peer::Local { uid: 0, pid: None }, place))
            })
            .collect();
        assert_eq!(open.cut_greediest(8), 5);
        let mut cut = 0;
        for (client, connection) in &mut members {
            client.write_u8(1).await.unwrap();
            cut += usize::from(connection.read_u8().await.is_err());
        }
        assert_eq!(cut, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_needed_ends_the_connection_at_once() {
        let places = Waiting::new(1);
        let (_client, mut connection) = stranger(&places);
        let began = clock::timer();
        let (error, _next) = tokio::join!(connection.read_u8(), async { stranger(&places) });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(clock::timer() - began, Duration::ZERO);
    }
}
