//! A connection that knows its caller.
//!
//! Owns the moment of pinning: right after accept, before a byte is read.

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
}

enum Stream {
    Unix(Lenient<UnixStream>),
    Tcp(TcpStream),
}

impl Connection {
    /// Pins the caller that the kernel names.
    #[must_use]
    pub fn of_unix(stream: UnixStream) -> Self {
        let caller = stream
            .peer_cred()
            .ok()
            .and_then(|credentials| Some((credentials.pid()?, credentials.uid(), credentials.gid())))
            .ok_or(AttestError::NoCredentials)
            .and_then(|(pid, uid, gid)| Caller::pin(pid, Some((uid, gid))));
        Self { stream: Stream::Unix(Lenient::new(stream)), caller: caller.map(Arc::new).map_err(Arc::new) }
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
        Self { stream: Stream::Tcp(stream), caller: caller.map(Arc::new).map_err(Arc::new) }
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
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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
