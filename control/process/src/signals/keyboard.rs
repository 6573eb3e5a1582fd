//! The signals that a terminal's keys send (`Ctrl-C`, `Ctrl-\\`), with whether it was the keys.
//!
//! A terminal sends them to all processes in its foreground, so to the app as well; a container engine or `kill` sends
//! them to us alone. Only the kernel's word on who sent it tells the two apart: in a container with a terminal the
//! standard streams and the process groups are the same either way.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use nix::{libc, sys::signal::Signal};
use signal_hook::iterator::{
    backend::{OwningSignalIterator, PollResult, SignalDelivery},
    exfiltrator::raw::WithRawSiginfo,
};
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::UnixStream,
};

/// Listens to them.
pub struct Keyboard(OwningSignalIterator<UnixStream, WithRawSiginfo>);

impl Keyboard {
    /// Listens from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let signals = [libc::SIGINT, libc::SIGQUIT];
        let delivery = SignalDelivery::with_pipe(read, write.into_std()?, WithRawSiginfo, signals)?;
        Ok(Self(OwningSignalIterator::new(delivery)))
    }

    /// The next one, and whether keys sent it. Cancel safe.
    pub async fn next(&mut self) -> (Signal, bool) {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(Signal, bool)> {
        match self.0.poll_signal(&mut |wake| is_woken(wake, cx)) {
            PollResult::Signal(info) => {
                let signal = if info.si_signo == libc::SIGQUIT { Signal::SIGQUIT } else { Signal::SIGINT };
                Poll::Ready((signal, info.si_code == libc::SI_KERNEL))
            }
            // Nobody closes it, and a pair of sockets of our own does not fail.
            PollResult::Pending | PollResult::Closed | PollResult::Err(_) => Poll::Pending,
        }
    }
}

fn is_woken(wake: &mut UnixStream, cx: &mut Context<'_>) -> io::Result<bool> {
    let mut byte = [0];
    match Pin::new(wake).poll_read(cx, &mut ReadBuf::new(&mut byte)) {
        Poll::Ready(result) => result.map(|()| true),
        Poll::Pending => Ok(false),
    }
}
