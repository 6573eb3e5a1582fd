//! A connection that knows its caller.
//!
//! Owns the moment of pinning: right after accept, before a byte is read; and that a connection ends with its process,
//! whoever has inherited it, or when nothing is asked on it while others need its place.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use svidecar_api::transport::authority::Lenient;
use svidecar_process::{source::Source, waiting::Guest};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;

use super::{
    quota::{CallerInfo, PATIENCE, Quota, Session},
    witness::Witnessed,
};
use crate::{
    attest::{Caller, tcp},
    error::AttestError,
};

/// An accepted connection.
pub struct Connection {
    stream: Stream,
    session: Arc<Session>,
    /// Resolves when the caller has ended.
    exited: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// As long as it may be there.
    place: Guest<Source>,
    /// Until something is asked.
    unasked: Option<Unasked>,
    ended: bool,
}

enum Stream {
    Unix(Lenient<Witnessed>),
    Tcp(TcpStream),
}

/// A connection on which nothing was asked yet.
struct Unasked {
    place: Guest<Source>,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    /// Pins the caller that the kernel names.
    #[must_use]
    pub fn of_unix(stream: UnixStream, quota: &Quota) -> Self {
        let caller = Caller::of_unix(&stream);
        Self::of_pinned(stream, caller, quota)
    }

    /// A connection whose caller was just pinned.
    #[must_use]
    pub fn of_pinned(stream: UnixStream, caller: Result<Caller, AttestError>, quota: &Quota) -> Self {
        let caller = caller.map(Arc::new).map_err(Arc::new);
        // A caller that could not be pinned has a user all the same.
        let source = stream.peer_cred().map_or(Source::Unknown, |peer| Source::User(peer.uid()));
        let stream = Witnessed::new(stream, caller.as_ref().ok().map(Arc::clone));
        Self::new(Stream::Unix(Lenient::new(stream)), caller, source, quota)
    }

    /// Looks for the process at the other end of a loopback connection and pins it.
    pub async fn of_tcp(stream: TcpStream, quota: &Quota) -> Self {
        let caller = match (stream.local_addr(), stream.peer_addr()) {
            (Ok(ours), Ok(peer)) => {
                let found = tokio::task::spawn_blocking(move || tcp::owner(ours, peer)).await;
                found.unwrap_or(Err(AttestError::Interrupted))
            }
            _ => Err(AttestError::NoCredentials),
        };
        let source = caller.as_ref().map_or(Source::Unknown, |caller| Source::User(caller.uid()));
        Self::new(Stream::Tcp(stream), caller.map(Arc::new).map_err(Arc::new), source, quota)
    }

    fn new(stream: Stream, caller: CallerInfo, source: Source, quota: &Quota) -> Self {
        let pinned = caller.as_ref().ok().map(Arc::clone);
        let exited = Box::pin(async move {
            match pinned {
                Some(caller) => caller.exited().await,
                None => std::future::pending().await,
            }
        });
        let unasked = Unasked { place: quota.enter(source), deadline: Box::pin(sleep(PATIENCE)) };
        let place = quota.open(source);
        let session = Arc::new(quota.session(source, caller));
        Self { stream, session, exited, place, unasked: Some(unasked), ended: false }
    }

    /// Whether nobody is to be served here any more.
    fn poll_end(&mut self, context: &mut Context<'_>) -> bool {
        if self.session.is_admitted() {
            self.unasked = None;
        }
        self.ended = self.ended
            || self.exited.as_mut().poll(context).is_ready()
            || pin!(self.place.evicted()).poll(context).is_ready()
            || self.unasked.as_mut().is_some_and(|unasked| unasked.poll_end(context));
        self.ended
    }

    /// Something was read.
    fn spoke(&self) {
        self.place.spoke();
        if let Some(unasked) = &self.unasked {
            unasked.place.spoke();
        }
    }
}

impl Unasked {
    fn poll_end(&mut self, context: &mut Context<'_>) -> bool {
        self.deadline.as_mut().poll(context).is_ready() || pin!(self.place.evicted()).poll(context).is_ready()
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Session>;

    fn connect_info(&self) -> Arc<Session> {
        Arc::clone(&self.session)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_end(context) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        if buffer.filled().len() > before {
            self.spoke();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.poll_end(context) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_end(context) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
