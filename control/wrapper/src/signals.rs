//! The signals that a daemon gets. PID 1 receives only those that it listens to.

use nix::sys::signal::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::WrapperError;

/// Those that end a process, and those that an app may give a meaning of its own.
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    quit: Stream,
    user1: Stream,
    user2: Stream,
}

impl Signals {
    /// Listens from now on: none of them ends the process by itself any more.
    ///
    /// # Errors
    /// [`WrapperError::Signals`].
    pub fn new() -> Result<Self, WrapperError> {
        let listen = |kind| signal(kind).map_err(|source| WrapperError::Signals { source });
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = self.user1.recv() => Signal::SIGUSR1,
            _ = self.user2.recv() => Signal::SIGUSR2,
        }
    }

    /// The next one that asks to end. Cancel safe.
    pub async fn next_of_termination(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if is_termination(signal) {
                return signal;
            }
        }
    }
}

/// Whether a signal asks a process to end.
#[must_use]
pub const fn is_termination(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT)
}
