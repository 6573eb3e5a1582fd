//! A stream that carries the octets of a connection: CONNECT (RFC 9113 §8.5, the wire form of HBONE), with or without
//! `:protocol` (RFC 8441).

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use super::Stream;
use crate::{
    io::{Buffer, ByteStream, Transport},
    message::{BodySource, ResponseHead},
};

/// A connection inside a stream.
pub struct Tunnel {
    stream: Stream,
    /// The answer to our CONNECT has not been read yet.
    awaiting: bool,
    refused: Option<Box<ResponseHead>>,
}

impl Tunnel {
    /// A stream whose tunnel both sides agreed on: the server has sent its 200, or the client has read it.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self { stream, awaiting: false, refused: None }
    }

    /// A stream of which the client has sent the request only. It may write at once; the answer is read before the first
    /// octet is.
    #[must_use]
    pub const fn connecting(stream: Stream) -> Self {
        Self { stream, awaiting: true, refused: None }
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What the other side answered instead of opening the tunnel, once reading has failed with
    /// [`io::ErrorKind::ConnectionRefused`].
    #[must_use]
    pub fn refused(&self) -> Option<&ResponseHead> {
        self.refused.as_deref()
    }

    /// Waits until the other side has opened the tunnel.
    ///
    /// # Errors
    /// It did not; see [`Self::refused`].
    pub fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.awaiting {
            let mut head = ResponseHead::default();
            ready!(self.stream.poll_response_head(cx, &mut head))?;
            match head.status {
                100..200 => {}
                200..300 => self.awaiting = false,
                status => {
                    self.refused = Some(Box::new(head));
                    let words = format!("the other side refused the tunnel with status {status}");
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, words)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for Tunnel {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        if self.awaiting {
            ready!(self.poll_connected(cx))?;
        }
        if !ready!(self.stream.poll_received(cx))? {
            return Poll::Ready(Ok(0));
        }
        let count = self.stream.data().len();
        if into.is_empty() {
            // It is held anyway.
            *into = self.stream.take_received();
            return Poll::Ready(Ok(count));
        }
        let count = count.min(limit);
        into.extend(self.stream.data().get(..count).unwrap_or_default());
        self.stream.consume(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream.poll_send(cx, from).map_err(io::Error::from)
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, from: &mut Buffer) -> Poll<io::Result<usize>> {
        self.stream.poll_give(cx, from).map_err(io::Error::from)
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written leaves with the turn of the connection's driver.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.stream.session.0.borrow_mut().connection.end(self.stream.key, None);
        Poll::Ready(ended.map_err(io::Error::from))
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_ended(cx)
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }

    fn reset(&mut self) {
        self.stream.session.0.borrow_mut().connection.abort(self.stream.key);
    }
}

impl From<Tunnel> for Transport {
    fn from(tunnel: Tunnel) -> Self {
        Self::Tunnel(Box::new(tunnel))
    }
}

impl From<Tunnel> for Stream {
    fn from(tunnel: Tunnel) -> Self {
        tunnel.stream
    }
}
