//! The app of `svidecar run -- CMD`: started when the proxy is ready, sent the signals that the proxy gets, its exit
//! code becomes ours.
//!
//! Never restarts the app: that is the job of whatever started us.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::process::Command;
use tracing::{debug, info};

use crate::error::ProxyError;

/// A shell's convention: killed by signal N exits with 128 + N.
const SIGNALLED: i32 = 128;

/// A running app.
pub struct Child {
    process: tokio::process::Child,
    pid: Option<Pid>,
}

impl Child {
    /// Starts the app with our standard streams, our environment, and the variables that tell it about us.
    ///
    /// # Errors
    /// [`ProxyError::StartChild`] with the command and what the system says.
    pub fn start(command: &[OsString], environment: &[(&str, String)]) -> Result<Self, ProxyError> {
        let (program, arguments) = command.split_first().ok_or(ProxyError::NoCommand)?;
        let failed = |source| ProxyError::StartChild { program: program.clone(), source };
        let process = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        info!(program = %program.to_string_lossy(), pid = pid.map(Pid::as_raw), "Started the app");
        Ok(Self { process, pid })
    }

    /// Passes a signal on. An app that has ended already is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            debug!(%signal, pid = pid.as_raw(), "Passing the signal on to the app");
            let _ = nix::sys::signal::kill(pid, signal);
        }
    }

    /// Whether its end has not been waited for.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.pid.is_some()
    }

    /// Waits for the app to end. Cancel safe.
    ///
    /// # Errors
    /// [`ProxyError::WaitChild`] when the system does not tell.
    pub async fn wait(&mut self) -> Result<u8, ProxyError> {
        let status = self.process.wait().await.map_err(|source| ProxyError::WaitChild { source })?;
        // A PID may be given to another process once it has been waited for.
        self.pid = None;
        let code = exit_code(status);
        info!(exit_code = code, "The app ended");
        Ok(code)
    }
}

/// The exit code that says the same as `status`.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        let command = ["/bin/sh", "-c", script].map(OsString::from);
        Child::start(&command, &[("SVIDECAR_TEST", "7".to_owned())]).unwrap()
    }

    #[tokio::test]
    async fn the_exit_code_of_the_app_is_ours() {
        assert_eq!(shell("exit $SVIDECAR_TEST").wait().await.unwrap(), 7);
        assert_eq!(shell("kill -9 $$").wait().await.unwrap(), 137);
    }

    #[tokio::test]
    async fn signals_are_passed_on() {
        let mut app = shell("exec tail -f /dev/null");
        app.signal(Signal::SIGTERM);
        assert_eq!(app.wait().await.unwrap(), 143);
        app.signal(Signal::SIGTERM);
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let error = Child::start(&["/nonexistent/app".into()], &[]).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/app"), "{error}");
    }
}
