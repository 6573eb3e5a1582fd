//! Whatever bytes may come over, as one type.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use super::{Buffer, ByteStream, Socket, TlsStream};

/// A connection, or a stream within a shared one.
pub enum Transport {
    /// Plain, toward the app or our workload.
    Socket(Socket),
    /// Encrypted, toward a peer.
    Tls(Box<TlsStream>),
    /// A stream of a connection that others use too, of a protocol that is known above.
    Tunnel(Box<dyn ByteStream>),
}

impl From<Socket> for Transport {
    fn from(socket: Socket) -> Self {
        Self::Socket(socket)
    }
}

impl From<TlsStream> for Transport {
    fn from(stream: TlsStream) -> Self {
        Self::Tls(Box::new(stream))
    }
}

/// Calls the same function of whichever stream it is.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Self::Socket($stream) => $call,
            Self::Tls($stream) => $call,
            Self::Tunnel($stream) => $call,
        }
    };
}

impl ByteStream for Transport {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_fill(cx, into, limit))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, from))
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, from: &mut Buffer) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_give(cx, from))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        each!(self, stream => stream.poll_ended(cx))
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        each!(self, stream => stream.poll_broken(cx))
    }

    fn reset(&mut self) {
        each!(self, stream => stream.reset());
    }
}
