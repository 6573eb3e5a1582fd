//! A Unix stream on which the kernel says of each byte who wrote it (SCM_CREDENTIALS, unix(7)).
//!
//! Owns telling the caller's [`Speaker`](crate::attest::speaker::Speaker). The bytes are passed on as they are, also those
//! of others: who has to be refused is told why.

use std::{
    io::{self, IoSliceMut},
    os::fd::AsRawFd as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
};

use crate::attest::Caller;

/// See the module.
pub struct Witnessed {
    stream: UnixStream,
    /// Whom to tell; none if it could not be pinned.
    caller: Option<Arc<Caller>>,
    /// Bytes that were there before the caller was pinned, and not yet read.
    before: u64,
    /// Room for the credentials of one read, and for no descriptors: what is passed is dropped.
    credentials: Vec<u8>,
}

impl Witnessed {
    /// Listens to `caller`, which was just pinned. The stream has SO_PASSCRED.
    pub fn new(stream: UnixStream, caller: Option<Arc<Caller>>) -> Self {
        // If we are not told, all that comes is from before, and nothing is ever proven.
        let before = rustix::io::ioctl_fionread(&stream).unwrap_or(u64::MAX);
        Self { stream, caller, before, credentials: cmsg_space!(UnixCredentials) }
    }

    fn heard(&mut self, read: usize, writer: i32) {
        let read = read as u64;
        if read > self.before
            && let Some(speaker) = self.caller.as_ref().and_then(|caller| caller.speaker())
        {
            speaker.wrote(writer);
        }
        self.before = self.before.saturating_sub(read);
    }
}

/// Reads, and says who wrote it: 0 if the kernel does not say.
fn receive(stream: &UnixStream, buffer: &mut [u8], credentials: &mut [u8]) -> io::Result<(usize, i32)> {
    let mut into = [IoSliceMut::new(buffer)];
    let received = loop {
        match recvmsg::<()>(stream.as_raw_fd(), &mut into, Some(credentials), MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            outcome => break outcome?,
        }
    };
    let writer = received.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
        ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
        _ => None,
    });
    Ok((received.bytes, writer.unwrap_or_default()))
}

impl AsyncRead for Witnessed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            ready!(this.stream.poll_read_ready(context))?;
            let (stream, credentials) = (&this.stream, &mut this.credentials);
            let into = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || receive(stream, into, credentials)) {
                Ok((read, writer)) => {
                    buffer.advance(read);
                    if read > 0 {
                        this.heard(read, writer);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Witnessed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
