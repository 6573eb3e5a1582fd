//! The command after `--`: started with our standard streams, sent the signals that we get, its exit code becomes ours.
//!
//! Owns the processes below us: no other code of a program that has a command may start or await one. As PID 1 it also
//! buries what others left behind. It must never start a command again: that is the job of whatever started us.

mod end;

use std::{
    ffi::{OsStr, OsString},
    io,
    process::Command,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};

use crate::{descriptors, error::WrapperError, signals::Received};

/// A running command. Killed when it is dropped before its end was awaited.
///
/// It is awaited here and not by the runtime: PID 1 has to take the end of every process below it, and would take that
/// of the command out of the runtime's hands.
pub struct Child {
    pid: Option<Pid>,
    /// SIGCHLD: one may stand for several ends.
    ended: tokio::signal::unix::Signal,
    reaps_all: bool,
}

impl Child {
    /// Starts a command with our standard streams and our environment, changed by `environment`: a variable without a
    /// value is taken away.
    ///
    /// # Errors
    /// [`WrapperError::Start`] with the program and what the system says.
    pub fn start(command: &[OsString], environment: &[(&str, Option<&OsStr>)]) -> Result<Self, WrapperError> {
        let (program, arguments) = command.split_first().ok_or(WrapperError::NoCommand)?;
        // Before the start, so that no end is missed.
        let ended = signal(SignalKind::child()).map_err(|source| WrapperError::Signals { source })?;
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let process = descriptors::with_the_limit_found(|| command.spawn())
            .map_err(|source| WrapperError::Start { program: program.clone(), source })?;
        let pid = i32::try_from(process.id()).ok().map(Pid::from_raw);
        info!(program = %program.to_string_lossy(), pid = process.id(), "Started the app");
        Ok(Self { pid, ended, reaps_all: std::process::id() == 1 })
    }

    /// Passes a signal on. An app that has ended already is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            debug!(%signal, pid = pid.as_raw(), "Passing the signal on to the app");
            let _ = kill(pid, signal);
        }
    }

    /// Passes on a signal that we got, except for one of a terminal's keys, which the app got as well: many take a second
    /// one as the wish to end without finishing.
    pub fn pass_on(&self, received: Received) {
        if !received.is_of_keys {
            self.signal(received.signal);
        }
    }

    /// Whether its end has not been waited for.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.pid.is_some()
    }

    /// Waits for the app to end, for ever if it has ended already, and gives its exit code. Cancel safe.
    ///
    /// # Errors
    /// [`WrapperError::Wait`] when the system does not tell.
    pub async fn wait(&mut self) -> Result<u8, WrapperError> {
        loop {
            if let Some(code) = self.reap().map_err(|source| WrapperError::Wait { source })? {
                info!(exit_code = code, "The app ended");
                return Ok(code);
            }
            if self.ended.recv().await.is_none() {
                return std::future::pending().await;
            }
        }
    }

    /// Asks the app to end (SIGTERM), kills it when it has not within `patience`, and gives its exit code. Whoever
    /// drops this before it is done kills the app.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn stop(&mut self, patience: Duration) -> Result<u8, WrapperError> {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(patience, self.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                warn!(patience_s = patience.as_secs_f32(), "The app did not end in time; killing it");
                self.signal(Signal::SIGKILL);
                self.wait().await
            }
        }
    }

    /// Takes the ends that are there: that of the app, and as PID 1 those of processes whose parents are gone.
    fn reap(&mut self) -> io::Result<Option<u8>> {
        while let Some(pid) = self.pid {
            match end::take((!self.reaps_all).then(|| pid.as_raw()))? {
                Some(ended) if ended.pid == pid.as_raw() => {
                    self.pid = None;
                    return Ok(Some(ended.code));
                }
                Some(orphan) => debug!(pid = orphan.pid, "Buried an orphan"),
                None => break,
            }
        }
        Ok(None)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shell(script: &str) -> Child {
        let command = ["/bin/sh", "-c", script].map(OsString::from);
        let environment = [("SVIDECAR_TEST", Some(OsStr::new("7"))), ("CARGO_PKG_NAME", None)];
        Child::start(&command, &environment).unwrap()
    }

    #[tokio::test]
    async fn the_exit_code_of_the_app_is_ours() {
        assert_eq!(shell("exit $SVIDECAR_TEST").wait().await.unwrap(), 7);
        assert_eq!(shell("kill -9 $$").wait().await.unwrap(), 137);
        // A real-time signal, for which there is no name.
        assert_eq!(shell("kill -40 $$").wait().await.unwrap(), 168);
    }

    #[tokio::test]
    async fn variables_are_set_and_taken_away() {
        assert_eq!(shell("exit ${CARGO_PKG_NAME:+1}").wait().await.unwrap(), 0);
        // It was there to be taken away.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
    }

    #[tokio::test]
    async fn signals_are_passed_on() {
        let mut app = shell("exec tail -f /dev/null");
        app.signal(Signal::SIGTERM);
        assert_eq!(app.wait().await.unwrap(), 143);
        assert!(!app.is_running());
        app.signal(Signal::SIGTERM);
    }

    #[tokio::test]
    async fn an_app_that_does_not_stop_is_killed() {
        // What a process ignores, what it starts ignores too.
        let mut app = shell("trap '' TERM; exec tail -f /dev/null");
        assert_eq!(app.stop(Duration::ZERO).await.unwrap() & 0x80, 0x80);
        let mut app = shell("exec tail -f /dev/null");
        assert_eq!(app.stop(Duration::from_secs(60)).await.unwrap(), 143);
    }

    /// One wait is given up for another, as a `select!` does.
    #[tokio::test]
    async fn waiting_is_cancel_safe() {
        let mut app = shell("exec tail -f /dev/null");
        for _ in 0..3 {
            tokio::select! {
                biased;
                code = app.wait() => panic!("it ended with {}", code.unwrap()),
                () = std::future::ready(()) => {}
            }
        }
        app.signal(Signal::SIGKILL);
        assert_eq!(app.wait().await.unwrap(), 137);
    }

    #[tokio::test]
    async fn two_commands_do_not_take_each_others_end() {
        let (mut one, mut other) = (shell("exit 1"), shell("exit 2"));
        assert_eq!(other.wait().await.unwrap(), 2);
        assert_eq!(one.wait().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let error = Child::start(&["/nonexistent/app".into()], &[]).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/app"), "{error}");
        assert!(matches!(Child::start(&[], &[]), Err(WrapperError::NoCommand)));
    }
}
