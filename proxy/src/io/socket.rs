//! TCP and Unix sockets as one type, for accepted and for dialled connections.
//!
//! Owns socket options and how much is read at once. A read costs one system call: the runtime knows from a short read
//! that nothing more waits, and from its poller when something does again.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{Buffer, ByteStream};

/// A dead peer is noticed after 30 s idle + 3 probes of 10 s, or 30 s after data stayed unacknowledged.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connected stream socket.
#[derive(Debug)]
pub struct Socket {
    kind: Kind,
    read_size: ReadSize,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Wraps an accepted or dialled TCP connection and sets its options: keep-alive, no delay.
    #[must_use]
    pub fn tcp(stream: TcpStream) -> Self {
        let socket = socket2::SockRef::from(&stream);
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        // Options only make a dead peer noticed sooner; a socket that refuses them still works.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&keepalive);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        Self { kind: Kind::Tcp(stream), read_size: ReadSize::default() }
    }

    /// Wraps an accepted or dialled Unix connection.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self { kind: Kind::Unix(stream), read_size: ReadSize::default() }
    }

    /// Makes the next close send RST, so that the peer learns that its bytes were not delivered.
    pub fn reset_on_close(&self) {
        if let Kind::Tcp(stream) = &self.kind {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl ByteStream for Socket {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let size = self.read_size.bytes().min(limit).max(1);
        let space = into.space(size);
        // Space that is there anyway may as well be used, but not above what was asked for.
        let size = space.len().min(limit.max(1));
        let mut space = ReadBuf::new(space.get_mut(..size).unwrap_or_default());
        let result = Pin::new(&mut *self).poll_read(cx, &mut space);
        let count = space.filled().len();
        // Gives the storage back when nothing came.
        into.commit(count);
        ready!(result)?;
        self.read_size.learn(count, size);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match from {
            // Unlike a vectored one, a short write tells the runtime that the socket is full.
            [one] => AsyncWrite::poll_write(Pin::new(self), cx, one),
            many => Pin::new(self).poll_write_vectored(cx, many),
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }

    fn reset(&mut self) {
        self.reset_on_close();
    }
}

/// How much to read at once: little from a peer that says little, much from one that fills what it gets.
#[derive(Clone, Copy, Debug)]
struct ReadSize(u32);

impl Default for ReadSize {
    fn default() -> Self {
        Self(Self::SMALLEST)
    }
}

impl ReadSize {
    const SMALLEST: u32 = 4 * 1024;
    const LARGEST: u32 = 256 * 1024;

    const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// `count` bytes came where there was space for `offered`.
    fn learn(&mut self, count: usize, offered: usize) {
        if count == offered && offered >= self.bytes() {
            self.0 = (self.0 * 4).min(Self::LARGEST);
        } else if count < self.bytes() / 8 {
            self.0 = (self.0 / 2).max(Self::SMALLEST);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
