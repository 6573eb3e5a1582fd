//! Bytes both ways between two streams, each half closed when its source is done.
//!
//! Used for TCP listeners and for what follows a switch of protocols. Knows no protocol and decides nothing. While nothing
//! moves, it holds no buffer.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use svidecar_code::Code;

use crate::io::{Buffer, ByteStream, FLIGHT, Transport};

/// What one read asks for at first, in bytes: a TLS record.
const SMALLEST_READ: usize = 16 * 1024;

/// What one read asks for while as much comes, in bytes. Also the most that a slow reader makes us hold.
const LARGEST_READ: usize = FLIGHT;

/// What may move before other tasks get their turn, in bytes.
const TURN: usize = 1024 * 1024;

/// Two streams that are joined.
pub struct Relay {
    downstream: Transport,
    upstream: Transport,
    /// Toward the upstream.
    there: Half,
    /// Toward the downstream.
    back: Half,
}

/// One direction.
struct Half {
    buffer: Buffer,
    ask: usize,
    bytes: u64,
    state: State,
    /// It waits for its source, whose end it sees by that.
    listens: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source is done; the other side is yet to be told.
    Ended,
    Done,
}

/// Why a relay ended before both sides were done.
#[derive(Debug)]
pub enum Broken<E> {
    /// One side failed.
    Failed(Failure),
    /// It was ended from outside.
    Over(E),
}

/// How a relay failed.
#[derive(Debug)]
pub struct Failure {
    /// The code of its record.
    pub code: Code,
    /// What the system says.
    pub error: io::Error,
}

impl Relay {
    /// Joins two streams.
    #[must_use]
    pub fn new(downstream: Transport, upstream: Transport) -> Self {
        Self::resume((downstream, Buffer::new()), (upstream, Buffer::new()))
    }

    /// The same, when some bytes of them were read already.
    #[must_use]
    pub fn resume(downstream: (Transport, Buffer), upstream: (Transport, Buffer)) -> Self {
        Self {
            downstream: downstream.0,
            upstream: upstream.0,
            there: Half::new(downstream.1),
            back: Half::new(upstream.1),
        }
    }

    /// Bytes from the downstream that were handed on.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.there.bytes
    }

    /// Bytes to the downstream that were handed on.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.back.bytes
    }

    /// Moves what can be moved; ready when both sides are done.
    ///
    /// # Errors
    /// One side failed; the other has been told.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Self { downstream, upstream, there, back } = self;
        let outcome = match there.poll(cx, downstream, upstream) {
            Ok(()) => back.poll(cx, upstream, downstream).map_err(Broke::turned),
            failed => failed,
        };
        match outcome.and_then(|()| self.look_around(cx)) {
            Ok(()) if self.is_done() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(broke) => {
                self.reset();
                Poll::Ready(Err(match broke {
                    Broke::Source(error) => Failure { code: Code::ClientClosed, error },
                    Broke::Sink(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        Failure { code: Code::TunnelRefused, error }
                    }
                    Broke::Sink(error) => Failure { code: Code::UpstreamFailed, error },
                }))
            }
        }
    }

    fn is_done(&self) -> bool {
        self.there.state == State::Done && self.back.state == State::Done
    }

    /// When one side sends nothing more, and all that it has sent was handed on: the code for an end that comes of it.
    fn half_end(&self) -> Option<Code> {
        match (self.there.state, self.back.state) {
            (State::Done, _) => Some(Code::ClientClosed),
            (_, State::Done) => Some(Code::UpstreamClosed),
            _ => None,
        }
    }

    /// A failure of a side to which nothing is said and of which nothing is heard now. An upstream's is no reason as long as
    /// bytes of it wait for a slow reader: they may be all that there is, and whole.
    fn look_around(&mut self, cx: &mut Context<'_>) -> Result<(), Broke> {
        let gone = || io::ErrorKind::ConnectionReset.into();
        if self.is_done() {
            return Ok(());
        }
        if !self.there.listens && self.downstream.poll_broken(cx).is_ready() {
            return Err(Broke::Source(gone()));
        }
        if self.back.state != State::Open && self.upstream.poll_broken(cx).is_ready() {
            return Err(Broke::Sink(gone()));
        }
        Ok(())
    }

    /// Makes the end one that neither side can take for a regular one.
    pub fn reset(&mut self) {
        self.downstream.reset();
        self.upstream.reset();
    }

    /// Moves until both sides are done, one fails, or `over` says that it ends. `over` is told when one side has ended, with
    /// the code for an end that comes of it.
    ///
    /// # Errors
    /// Why it ended before.
    pub async fn run<E>(
        &mut self,
        mut over: impl FnMut(&mut Context<'_>, Option<Code>) -> Poll<E>,
    ) -> Result<(), Broken<E>> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = self.poll(cx) {
                return Poll::Ready(done.map_err(Broken::Failed));
            }
            let ending = ready!(over(cx, self.half_end()));
            self.reset();
            Poll::Ready(Err(Broken::Over(ending)))
        })
        .await
    }
}

/// Which side failed, as one direction sees it.
enum Broke {
    Source(io::Error),
    Sink(io::Error),
}

impl Broke {
    fn turned(self) -> Self {
        match self {
            Self::Source(error) => Self::Sink(error),
            Self::Sink(error) => Self::Source(error),
        }
    }
}

impl Half {
    const fn new(buffer: Buffer) -> Self {
        Self { buffer, ask: SMALLEST_READ, bytes: 0, state: State::Open, listens: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Transport, to: &mut Transport) -> Result<(), Broke> {
        let mut turn = TURN;
        self.listens = false;
        loop {
            while !self.buffer.is_empty() {
                let written = to.poll_give(cx, &mut self.buffer).map_err(Broke::Sink)?;
                let Poll::Ready(written) = written else { return Ok(()) };
                self.bytes += written as u64;
                turn = turn.saturating_sub(written);
            }
            match self.state {
                State::Open => {}
                State::Ended => {
                    if to.poll_shutdown(cx).map_err(Broke::Sink)?.is_ready() {
                        self.state = State::Done;
                    }
                    return Ok(());
                }
                State::Done => return Ok(()),
            }
            if turn == 0 {
                cx.waker().wake_by_ref();
                return self.flush(cx, to);
            }
            match from.poll_fill(cx, &mut self.buffer, self.ask).map_err(Broke::Source)? {
                Poll::Ready(0) => self.state = State::Ended,
                Poll::Ready(count) => self.learn(count),
                Poll::Pending => {
                    self.listens = true;
                    return self.flush(cx, to);
                }
            }
        }
    }

    fn flush(&self, cx: &mut Context<'_>, to: &mut Transport) -> Result<(), Broke> {
        match to.poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(Broke::Sink(error)),
            // When the flush has to wait, the stream wakes us.
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Asks for more when all that was asked for came, and for less when little did.
    fn learn(&mut self, count: usize) {
        if count >= self.ask {
            self.ask = LARGEST_READ.min(self.ask * 2);
        } else if count < self.ask / 4 {
            self.ask = SMALLEST_READ.max(self.ask / 2);
        }
    }
}

#[cfg(test)]
mod tests;
