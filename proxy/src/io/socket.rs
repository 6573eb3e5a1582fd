//! TCP and Unix sockets as one type, for accepted and for dialled connections.
//!
//! Owns socket options and how much is read at once. A read costs one system call: the runtime knows from a short read
//! that nothing more waits, and from its poller when something does again. That the other side is gone is known from the
//! poller too, at the cost of no system call and no descriptor, however much waits unread.

use std::{
    io::{self, IoSlice, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{Buffer, ByteStream, buffer};

/// A peer that may be dead is asked after 30 s without a word, and again each 10 s. Where the user timeout is not to be
/// had, three probes without an answer are its end.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// How long probes may stay without an answer, data unacknowledged, or a reader without taking any (tcp(7)). As long as Envoy
/// waits for a stream that stands still: a reader that pauses is not dead.
const USER_TIMEOUT: Duration = Duration::from_secs(300);

/// A connected stream socket.
#[derive(Debug)]
pub struct Socket {
    kind: Kind,
    read_size: ReadSize,
    /// The runtime was made to forget that something can be read: the socket itself is asked.
    may_read: bool,
    /// The same of writing.
    may_write: bool,
    /// We have said that nothing more comes from us.
    is_shut: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Sets what every TCP connection has: keep-alive, no delay. Linux hands the options of a listening socket on to the
/// connections that it accepts.
pub fn set_options(socket: &SockRef<'_>) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    // Options only make a dead peer noticed sooner; a socket that refuses them still works.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

impl Socket {
    /// A TCP connection of ours.
    #[must_use]
    pub fn dialled(stream: TcpStream) -> Self {
        set_options(&(&stream).into());
        Self::accepted(stream)
    }

    /// A TCP connection of somebody else, whose options are the listening socket's.
    #[must_use]
    pub const fn accepted(stream: TcpStream) -> Self {
        Self::of(Kind::Tcp(stream))
    }

    const fn of(kind: Kind) -> Self {
        let read_size = ReadSize(ReadSize::SMALLEST);
        Self { kind, read_size, may_read: false, may_write: false, is_shut: false }
    }

    /// A Unix connection.
    #[must_use]
    pub const fn unix(stream: UnixStream) -> Self {
        Self::of(Kind::Unix(stream))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(stream) => stream.as_fd(),
            Kind::Unix(stream) => stream.as_fd(),
        }
    }
}

/// What the poller has said, kept by the runtime. Its tasks and its poller share a thread, so that nothing is said while one
/// looks.
impl Socket {
    /// Whether the poller has said this of the socket, and nobody has made the runtime forget it.
    fn was_told(&self, interest: Interest) -> bool {
        let yes = || Ok(());
        match &self.kind {
            Kind::Tcp(stream) => stream.try_io(interest, yes),
            Kind::Unix(stream) => stream.try_io(interest, yes),
        }
        .is_ok()
    }

    /// Makes the runtime forget that the socket is ready, so that the poller's next word wakes who waits. Returns whether
    /// there was anything to forget. That a direction is closed is never forgotten.
    fn forget(&self, interest: Interest) -> bool {
        let mut was_ready = false;
        let no = || {
            was_ready = true;
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        };
        let _ = match &self.kind {
            Kind::Tcp(stream) => stream.try_io(interest, no),
            Kind::Unix(stream) => stream.try_io(interest, no),
        };
        was_ready
    }

    /// Reads past the runtime, which has forgotten that there is something. `None`: there is nothing, and the runtime is
    /// right again.
    fn read_unasked(&mut self, space: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let into = space.initialize_unfilled();
        let wanted = into.len();
        let read = loop {
            match (&*SockRef::from(&*self)).read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(count) => {
                self.may_read = count == wanted;
                space.advance(count);
                Some(Ok(()))
            }
            Err(error) => {
                self.may_read = false;
                (error.kind() != io::ErrorKind::WouldBlock).then_some(Err(error))
            }
        }
    }

    /// The same for writing.
    fn write_unasked(&mut self, from: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let written = loop {
            match (&*SockRef::from(&*self)).write_vectored(from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written,
            }
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.may_write = false;
                None
            }
            written => Some(written),
        }
    }
}

/// Calls the same function of whichever socket it is.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.kind {
            Kind::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Kind::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl ByteStream for Socket {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let kept = buffer::LARGEST_KEPT.saturating_sub(into.len());
        let size = self.read_size.bytes().min(limit).min(kept).max(1);
        let space = into.space(size);
        // Space that is there anyway may as well be used.
        let size = space.len().min(limit.max(1));
        let mut space = ReadBuf::new(space.get_mut(..size).unwrap_or_default());
        let unasked = if self.may_read { self.read_unasked(&mut space) } else { None };
        let result = match unasked {
            Some(result) => Poll::Ready(result),
            None => each!(self, stream => stream.poll_read(cx, &mut space)),
        };
        let count = space.filled().len();
        // Gives the storage back when nothing came.
        into.commit(count);
        ready!(result)?;
        self.read_size.learn(count, size);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.may_write
            && let Some(written) = self.write_unasked(from)
        {
            return Poll::Ready(written);
        }
        match from {
            // Unlike a vectored one, a short write tells the runtime that the socket is full.
            [one] => each!(self, stream => stream.poll_write(cx, one)),
            many => each!(self, stream => stream.poll_write_vectored(cx, many)),
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        each!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Of the two, the runtime keeps only the end: we register for no urgent data.
            if self.was_told(Interest::PRIORITY) || self.was_told(Interest::ERROR) {
                return Poll::Ready(());
            }
            self.may_read |= self.forget(Interest::READABLE);
            let told = match &self.kind {
                Kind::Tcp(stream) => stream.poll_read_ready(cx),
                Kind::Unix(stream) => stream.poll_read_ready(cx),
            };
            if ready!(told).is_err() {
                return Poll::Ready(());
            }
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.was_told(Interest::ERROR) {
            return Poll::Ready(());
        }
        self.may_write |= self.forget(Interest::WRITABLE);
        if self.was_told(Interest::WRITABLE) {
            // Closed in both directions: an end that both sides wanted, or one that the other side alone did.
            return if self.is_shut { Poll::Pending } else { Poll::Ready(()) };
        }
        let told = match &self.kind {
            Kind::Tcp(stream) => stream.poll_write_ready(cx),
            Kind::Unix(stream) => stream.poll_write_ready(cx),
        };
        match told {
            Poll::Ready(Ok(())) => {
                // Told between the two looks.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            told => told.map(drop),
        }
    }

    fn reset(&mut self) {
        // A socket that is closed with its lingering time at zero says RST.
        if let Kind::Tcp(stream) = &self.kind {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// How much to read at once: little from a peer that says little, much from one that fills what it gets.
#[derive(Clone, Copy, Debug)]
struct ReadSize(u32);

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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::io::{fill, send, shutdown, tls::tests::pair};

    #[test]
    fn reads_grow_with_what_comes_and_shrink_again() {
        let mut size = ReadSize(ReadSize::SMALLEST);
        let mut sizes = Vec::new();
        for (count, offered) in
            [(4096, 4096), (16_384, 16_384), (65_536, 65_536), (262_144, 262_144), (100, 262_144)]
        {
            size.learn(count, offered);
            sizes.push(size.bytes());
        }
        // A read that was small because its caller wanted little says nothing.
        size.learn(10, 10);
        sizes.push(size.bytes());
        assert_eq!(sizes, [16_384, 65_536, 262_144, 262_144, 131_072, 65_536]);
    }

    #[tokio::test]
    async fn a_buffer_is_taken_only_for_what_has_come() {
        let (mut near, far) = pair().await;
        let mut socket = Socket::dialled(far);
        let mut into = Buffer::new();
        let nothing =
            std::future::poll_fn(|cx| Poll::Ready(socket.poll_fill(cx, &mut into, 100).is_pending())).await;
        assert!(nothing);
        assert_eq!(into.capacity(), 0);
        near.write_all(&[7; 5000]).await.unwrap();
        let mut got = 0;
        while got < 5000 {
            let count = fill(&mut socket, &mut into, 3000).await.unwrap();
            assert!(count <= 3000);
            got += count;
        }
        assert_eq!(into.filled(), [7; 5000]);
        drop(near);
        assert_eq!(fill(&mut socket, &mut into, 3000).await.unwrap(), 0);
        assert_eq!(into.len(), 5000);
    }

    #[tokio::test]
    async fn many_slices_leave_in_order() {
        let (near, far) = pair().await;
        let (mut near, mut far) = (Socket::dialled(near), Socket::dialled(far));
        let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        let count = std::future::poll_fn(|cx| near.poll_write(cx, &slices)).await.unwrap();
        assert_eq!(count, 7);
        send(&mut near, b" three").await.unwrap();
        shutdown(&mut near).await.unwrap();
        let mut into = Buffer::new();
        while fill(&mut far, &mut into, 100).await.unwrap() > 0 {}
        assert_eq!(into.filled(), b"one two three");
    }

    #[tokio::test]
    async fn a_half_that_ended_is_sound_until_the_other_side_is_gone() {
        let (near, far) = pair().await;
        let (mut near, mut far) = (Socket::dialled(near), Socket::dialled(far));
        shutdown(&mut near).await.unwrap();
        assert_eq!(fill(&mut far, &mut Buffer::new(), 100).await.unwrap(), 0);
        let sound = std::future::poll_fn(|cx| Poll::Ready(far.poll_broken(cx).is_pending())).await;
        assert!(sound);
        near.reset();
        drop(near);
        std::future::poll_fn(|cx| far.poll_broken(cx)).await;

        let (near, far) = UnixStream::pair().unwrap();
        let (mut near, mut far) = (Socket::unix(near), Socket::unix(far));
        shutdown(&mut near).await.unwrap();
        assert_eq!(fill(&mut far, &mut Buffer::new(), 100).await.unwrap(), 0);
        let sound = std::future::poll_fn(|cx| Poll::Ready(far.poll_broken(cx).is_pending())).await;
        assert!(sound);
        drop(near);
        std::future::poll_fn(|cx| far.poll_broken(cx)).await;
    }

    /// Whether it is noticed now.
    async fn is_noticed(mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>) -> bool {
        // Once for the poller, which the runtime asks in between.
        tokio::task::yield_now().await;
        std::future::poll_fn(|cx| Poll::Ready(poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn an_end_is_noticed_behind_bytes_that_nobody_reads() {
        for resets in [false, true] {
            let (near, far) = pair().await;
            let (mut near, mut far) = (Socket::dialled(near), Socket::dialled(far));
            send(&mut near, &[7; 5000]).await.unwrap();
            assert!(!is_noticed(|cx| far.poll_ended(cx)).await);
            send(&mut near, &[7; 5000]).await.unwrap();
            assert!(!is_noticed(|cx| far.poll_ended(cx)).await);
            let mut into = Buffer::new();
            // What waits is read, although the runtime was made to forget it.
            for _ in 0..2 {
                assert_eq!(fill(&mut far, &mut into, 1000).await.unwrap(), 1000);
            }
            assert!(!is_noticed(|cx| far.poll_ended(cx)).await);
            if resets {
                near.reset();
                drop(near);
            } else {
                shutdown(&mut near).await.unwrap();
                std::future::poll_fn(|cx| far.poll_ended(cx)).await;
                while fill(&mut far, &mut into, 100_000).await.unwrap() > 0 {}
                assert_eq!(into.filled(), [7; 10_000]);
            }
            std::future::poll_fn(|cx| far.poll_ended(cx)).await;
        }
    }

    #[tokio::test]
    async fn what_was_forgotten_is_read_and_written_as_before() {
        let (near, far) = pair().await;
        let (mut near, mut far) = (Socket::dialled(near), Socket::dialled(far));
        assert!(!is_noticed(|cx| near.poll_broken(cx)).await);
        let block = vec![3; 1 << 20];
        // Until the other side takes no more, then until it has taken all.
        let mut sent = 0;
        while let Poll::Ready(count) =
            std::future::poll_fn(|cx| Poll::Ready(near.poll_write(cx, &[IoSlice::new(&block)]))).await
        {
            sent += count.unwrap();
        }
        assert!(!is_noticed(|cx| near.poll_broken(cx)).await && !is_noticed(|cx| far.poll_ended(cx)).await);
        let mut got = 0;
        while got < sent {
            let mut into = Buffer::new();
            got += fill(&mut far, &mut into, 1 << 20).await.unwrap();
            assert!(got >= sent || !is_noticed(|cx| far.poll_ended(cx)).await);
        }
        send(&mut near, b"more").await.unwrap();
        assert_eq!(fill(&mut far, &mut Buffer::new(), 100).await.unwrap(), 4);
    }

    /// A side that has ended its half on purpose and still has bytes to be read is not broken.
    #[tokio::test]
    async fn both_halves_that_ended_are_no_failure() {
        let (near, far) = pair().await;
        let (mut near, mut far) = (Socket::dialled(near), Socket::dialled(far));
        send(&mut near, b"bytes").await.unwrap();
        for socket in [&mut near, &mut far] {
            shutdown(socket).await.unwrap();
        }
        std::future::poll_fn(|cx| far.poll_ended(cx)).await;
        assert!(!is_noticed(|cx| far.poll_broken(cx)).await);
        assert_eq!(fill(&mut far, &mut Buffer::new(), 100).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_reset_is_not_a_regular_end() {
        let (near, far) = pair().await;
        let (mut near, mut far) = (Socket::dialled(near), Socket::dialled(far));
        near.reset();
        drop(near);
        let error = fill(&mut far, &mut Buffer::new(), 100).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
