//! Bytes both ways between two connections, each half closed when its source is done.
//!
//! Used for TCP listeners and for what follows a switch of protocols. Knows no protocol and decides nothing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    codes,
    connections::{Event, Lifeline},
};

/// One direction's buffer: a TLS record's worth.
const BUFFER: usize = 16 * 1024;

/// Bytes that went through, readable while they go.
#[derive(Default)]
pub struct Transferred {
    /// From the downstream to the upstream.
    pub received: AtomicU64,
    /// From the upstream to the downstream.
    pub sent: AtomicU64,
}

/// How a tunnel ended.
#[derive(Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides were done.
    Finished,
    /// One side failed; the code says how.
    Failed(io::ErrorKind),
    /// The connection's decision changed.
    NoLongerAllowed,
    /// The peer's SVID expired.
    PeerExpired,
    /// The proxy goes down.
    Drained,
}

impl TunnelEnd {
    /// The code of the record; `None` for an end that is no failure.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Finished => None,
            Self::Failed(_) => Some(codes::UPSTREAM_FAILED),
            Self::NoLongerAllowed => Some(codes::NO_LONGER_ALLOWED),
            Self::PeerExpired => Some(codes::PEER_EXPIRED),
            Self::Drained => Some(codes::DRAINING),
        }
    }
}

/// Copies until both sides are done, one fails, or an event ends it. `on_change` decides again, and says what a
/// peer's expiry means: whether the tunnel may go on, and if not, how long it may still take.
pub async fn tunnel(
    downstream: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    transferred: &Arc<Transferred>,
    lifeline: &mut Lifeline,
    mut on_event: impl FnMut(Event) -> Option<(TunnelEnd, std::time::Duration)>,
) -> TunnelEnd {
    let mut downstream = Counted::new(downstream, transferred, |counts| &counts.received);
    let mut upstream = Counted::new(upstream, transferred, |counts| &counts.sent);
    let copy = tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER);
    tokio::pin!(copy);
    let mut ending = None;
    loop {
        tokio::select! {
            result = &mut copy => return match (ending, result) {
                (Some(reason), _) => reason,
                (None, Ok(_)) => TunnelEnd::Finished,
                (None, Err(error)) => TunnelEnd::Failed(error.kind()),
            },
            event = lifeline.next() => {
                if event == Event::TimeIsUp {
                    return ending.unwrap_or(TunnelEnd::Drained);
                }
                if let Some((reason, grace)) = on_event(event) {
                    ending.get_or_insert(reason);
                    lifeline.end_within(grace);
                }
            }
        }
    }
}

/// Counts what is read from one side.
struct Counted<S> {
    inner: S,
    transferred: Arc<Transferred>,
    counter: fn(&Transferred) -> &AtomicU64,
}

impl<S> Counted<S> {
    fn new(inner: S, transferred: &Arc<Transferred>, counter: fn(&Transferred) -> &AtomicU64) -> Self {
        Self { inner, transferred: Arc::clone(transferred), counter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let read = buf.filled().len().saturating_sub(before);
        (this.counter)(&this.transferred).fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        sync::watch,
    };

    use super::*;
    use crate::drain::{Direction, Phase};

    fn lifeline() -> (watch::Sender<u64>, watch::Sender<Phase>, Lifeline) {
        let (snapshot, phase) = (watch::Sender::new(1), watch::Sender::new(Phase::Running));
        let lifeline = Lifeline::new(snapshot.subscribe(), phase.subscribe(), Direction::Inbound);
        (snapshot, phase, lifeline)
    }

    #[tokio::test]
    async fn a_half_closed_side_still_gets_the_answer() {
        let (mut client, downstream) = duplex(64);
        let (upstream, mut server) = duplex(64);
        let (_snapshot, _phase, mut lifeline) = lifeline();
        let transferred = Arc::new(Transferred::default());
        let counts = Arc::clone(&transferred);
        let run =
            tokio::spawn(async move { tunnel(downstream, upstream, &counts, &mut lifeline, |_| None).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        server.write_all(b"the answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "the answer");
        assert_eq!(run.await.unwrap(), TunnelEnd::Finished);
        assert_eq!(transferred.received.load(Ordering::Relaxed), 8);
        assert_eq!(transferred.sent.load(Ordering::Relaxed), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loser_is_closed_after_its_grace_and_only_a_loser() {
        let (_client, downstream) = duplex(64);
        let (upstream, _server) = duplex(64);
        let (snapshot, _phase, mut lifeline) = lifeline();
        let mut rounds = 0;
        snapshot.send_replace(2);
        let transferred = Arc::default();
        let run = tunnel(downstream, upstream, &transferred, &mut lifeline, |event| {
            assert_eq!(event, Event::Changed);
            rounds += 1;
            if rounds == 1 {
                snapshot.send_replace(3);
                return None;
            }
            Some((TunnelEnd::NoLongerAllowed, Duration::from_secs(2)))
        });
        assert_eq!(run.await, TunnelEnd::NoLongerAllowed);
        assert_eq!(rounds, 2);
    }
}
