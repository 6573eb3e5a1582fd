//! A connection that knows its caller.
//!
//! Owns the moment of pinning: right after accept, before a byte is read; and that a connection ends with its process,
//! whoever has inherited it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use svidecar_api::transport::authority::Lenient;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tonic::transport::server::Connected;

use super::witness::Witnessed;
use crate::{
    attest::{Caller, tcp},
    error::AttestError,
};

/// The caller as pinned at accept, or why it could not be.
pub type CallerInfo = Result<Arc<Caller>, Arc<AttestError>>;

/// An accepted connection.
pub struct Connection {
    stream: Stream,
    caller: CallerInfo,
    /// Resolves when nobody is to be served here any more.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

enum Stream {
    Unix(Lenient<Witnessed>),
    Tcp(TcpStream),
}

impl Connection {
    /// Pins the caller that the kernel names.
    #[must_use]
    pub fn of_unix(stream: UnixStream) -> Self {
        let caller = Caller::of_unix(&stream);
        Self::of_pinned(stream, caller)
    }

    /// A connection whose caller was just pinned.
    #[must_use]
    pub fn of_pinned(stream: UnixStream, caller: Result<Caller, AttestError>) -> Self {
        let caller = caller.map(Arc::new).map_err(Arc::new);
        let stream = Witnessed::new(stream, caller.as_ref().ok().map(Arc::clone));
        Self::new(Stream::Unix(Lenient::new(stream)), caller)
    }

    /// Looks for the process at the other end of a loopback connection and pins it.
    pub async fn of_tcp(stream: TcpStream) -> Self {
        let caller = match (stream.local_addr(), stream.peer_addr()) {
            (Ok(ours), Ok(peer)) => {
                let found = tokio::task::spawn_blocking(move || tcp::owner(ours, peer)).await;
                found.unwrap_or(Err(AttestError::Interrupted))
            }
            _ => Err(AttestError::NoCredentials),
        };
        Self::new(Stream::Tcp(stream), caller.map(Arc::new).map_err(Arc::new))
    }

    fn new(stream: Stream, caller: CallerInfo) -> Self {
        let pinned = caller.as_ref().ok().map(Arc::clone);
        let end = Box::pin(async move {
            match pinned {
                Some(caller) => caller.exited().await,
                None => std::future::pending().await,
            }
        });
        Self { stream, caller, end, ended: false }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> bool {
        self.ended = self.ended || self.end.as_mut().poll(context).is_ready();
        self.ended
    }
}

impl Connected for Connection {
    type ConnectInfo = CallerInfo;

    fn connect_info(&self) -> CallerInfo {
        self.caller.clone()
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
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
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
