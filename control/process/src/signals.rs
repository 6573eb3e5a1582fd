//! The signals that a daemon gets. PID 1 receives only those that it listens to.

mod keyboard;

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use self::keyboard::Keyboard;
use crate::error::WrapperError;

/// A signal that we got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// A terminal's keys sent it, to all processes in its foreground.
    pub is_of_keys: bool,
}

/// Those that end a process, and those that an app may give a meaning of its own.
pub struct Signals {
    terminate: Stream,
    hangup: Stream,
    keyboard: Keyboard,
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
            hangup: listen(SignalKind::hangup())?,
            keyboard: Keyboard::new().map_err(|source| WrapperError::Signals { source })?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) -> Received {
        let signal = tokio::select! {
            (signal, is_of_keys) = self.keyboard.next() => return Received { signal, is_of_keys },
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.user1.recv() => Signal::SIGUSR1,
            _ = self.user2.recv() => Signal::SIGUSR2,
        };
        Received { signal, is_of_keys: false }
    }

    /// The next one that asks to end. Cancel safe.
    pub async fn next_of_termination(&mut self) -> Signal {
        loop {
            let signal = self.next().await.signal;
            if is_termination(signal) {
                return signal;
            }
        }
    }
}

/// Those that ask a process without a command to end. All others do what the system has them do.
pub struct Termination {
    terminate: Stream,
    interrupt: Stream,
}

impl Termination {
    /// Listens from now on: neither ends the process by itself any more.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.interrupt.recv() => Signal::SIGINT,
        }
    }
}

/// Whether a signal asks a process to end.
#[must_use]
pub const fn is_termination(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::{BufRead as _, BufReader, Write as _},
        process::{Command, Stdio},
    };

    use super::*;

    const IN_TERMINAL: &str = "SVIDECAR_TEST_IN_TERMINAL";

    #[tokio::test]
    async fn a_process_is_asked_to_end_more_than_once() {
        let mut termination = Termination::new().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGTERM).unwrap();
        assert_eq!(termination.next().await, Signal::SIGTERM);
        nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGTERM).unwrap();
        assert_eq!(termination.next().await, Signal::SIGTERM);
    }

    /// The test runs itself once more in a terminal, where it gets the same signal from a key and from a process.
    #[tokio::test]
    async fn keys_are_told_from_processes() {
        if std::env::var_os(IN_TERMINAL).is_some() {
            let mut signals = Signals::new().unwrap();
            println!("press");
            let of_keys = signals.next().await;
            nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGINT).unwrap();
            let of_a_process = signals.next().await;
            println!("keys {of_keys:?}, process {of_a_process:?}");
            return;
        }
        let test = std::env::current_exe().unwrap();
        let itself = format!("exec '{}' --nocapture keys_are_told_from_processes", test.display());
        let mut terminal = Command::new("script")
            .args(["-qfec", &itself, "/dev/null"])
            .env(IN_TERMINAL, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut keys = terminal.stdin.take().unwrap();
        let mut said = String::new();
        for line in BufReader::new(terminal.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if line.contains("press") {
                keys.write_all(b"\x03").unwrap();
                keys.flush().unwrap();
            }
            said.push_str(&line);
        }
        assert!(terminal.wait().unwrap().success(), "{said}");
        let received = |is_of_keys| format!("{:?}", Received { signal: Signal::SIGINT, is_of_keys });
        let expected = format!("keys {}, process {}", received(true), received(false));
        assert!(said.contains(&expected), "{said}");
    }
}
