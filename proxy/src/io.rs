//! Bytes in and out of connections: the buffers that hold them while they are in flight, and the one shape that a socket,
//! a TLS connection and a stream inside a shared connection have in common.
//!
//! Knows no protocol above the bytes. An idle connection owns no buffer: storage is taken from the thread's pool when
//! bytes arrive and goes back when the last of them has left.

pub mod address;
pub mod buffer;
pub mod socket;
pub mod tls;
pub mod transport;

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

pub use self::{buffer::Buffer, socket::Socket, tls::TlsStream, transport::Transport};

/// What is handed on in one go where much is on its way, in bytes: seven full TLS records, which leave in one system call and
/// fit with what they need besides into storage of 128 KiB.
pub const FLIGHT: usize = 7 * 16 * 1024;

/// A connection, or a stream within one, that carries bytes both ways.
///
/// Every `poll_` function keeps to the contract of [`std::task`]: `Pending` means that the task of `cx` is woken when it
/// is worth asking again. One task uses a stream at a time.
pub trait ByteStream {
    /// Appends what has arrived to `into`: at most about `limit` bytes where they have to be read or copied; a stream that
    /// holds more already may hand over all of it, as its own storage, when `into` is empty. `Ok(0)` is the end of what the
    /// other side sends. Takes storage for `into` only once there is something to put in it.
    ///
    /// # Errors
    /// The connection failed, or the other side reset it.
    fn poll_fill(&mut self, cx: &mut Context<'_>, into: &mut Buffer, limit: usize)
    -> Poll<io::Result<usize>>;

    /// Takes bytes to be sent, in order, as many as it can now. They may wait inside until [`Self::poll_flush`].
    ///
    /// # Errors
    /// The connection failed, or the other side reset it.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// The same with a buffer, whose storage may be taken along instead of being copied from. What was taken is no longer in it.
    ///
    /// # Errors
    /// The connection failed, or the other side reset it.
    fn poll_give(&mut self, cx: &mut Context<'_>, from: &mut Buffer) -> Poll<io::Result<usize>> {
        let count = ready!(self.poll_write(cx, &[IoSlice::new(from.filled())]))?;
        from.consume(count);
        Poll::Ready(Ok(count))
    }

    /// Hands on what waits inside. `Ready` promises that it will leave without another call.
    ///
    /// # Errors
    /// The connection failed, or the other side reset it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Flushes, and tells the other side that nothing more comes; reading goes on.
    ///
    /// # Errors
    /// The connection failed, or the other side reset it.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when the other side sends nothing more, or the connection has failed, as far as that can be known without
    /// reading: for when what came waits for somebody else. Bytes that wait are no end.
    fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Ready when the connection has failed, or the other side has closed both its directions, as far as that can be known
    /// without reading: for when the other side may have ended its half, and something is still to be sent to it.
    fn poll_broken(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Makes the end an abortion that the other side cannot take for a regular one (RST, `RST_STREAM`).
    fn reset(&mut self);
}

/// [`ByteStream::poll_fill`] to be awaited.
///
/// # Errors
/// The connection failed, or the other side reset it.
pub async fn fill<S: ByteStream>(stream: &mut S, into: &mut Buffer, limit: usize) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_fill(cx, into, limit)).await
}

/// Sends all of `bytes`, flushed.
///
/// # Errors
/// The connection failed, or the other side reset it.
pub async fn send<S: ByteStream>(stream: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    poll_fn(|cx| {
        while !bytes.is_empty() {
            let count = ready!(stream.poll_write(cx, &[IoSlice::new(bytes)]))?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        stream.poll_flush(cx)
    })
    .await
}

/// [`ByteStream::poll_shutdown`] to be awaited.
///
/// # Errors
/// The connection failed, or the other side reset it.
pub async fn shutdown<S: ByteStream>(stream: &mut S) -> io::Result<()> {
    poll_fn(|cx| stream.poll_shutdown(cx)).await
}
