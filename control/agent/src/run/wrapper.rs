//! `run -- COMMAND`: the agent as all that a container has to start.
//!
//! Owns how the command's life and the agent's hang together. The command is started as soon as the Workload API is
//! served, before the agent has an SVID: whoever speaks that API waits by itself (Workload Endpoint §6), so it can get
//! ready meanwhile; and what is wrong with the settings shows before, and starts nothing. From then on each ends with
//! the other. The command is in the agent's own trust: it runs as the agent's user. Yet the join token is kept from it.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    pin::pin,
};

use svidecar_config::agent::AgentSettings;
use svidecar_process::{Child, Signals, is_termination};
use tokio::sync::oneshot;

use crate::error::AgentError;

/// Where a workload looks for the Workload API (Workload Endpoint §4).
const ENDPOINT: &str = "SPIFFE_ENDPOINT_SOCKET";

/// The setting that is a secret, as a variable.
const JOIN_TOKEN: &str = "SVIDECAR_AGENT_JOIN_TOKEN";

/// Runs agent and command until one of them ends, and gives the command's exit code.
///
/// # Errors
/// Why the agent, or the command, could not start or go on. The command has ended by then.
pub async fn run(settings: AgentSettings, command: &[OsString]) -> Result<u8, AgentError> {
    let mut signals = Signals::new()?;
    keep_secrets();
    let endpoint = endpoint(&settings.socket_path)?;
    let patience = settings.command_stop_timeout.get();
    let (serving, mut served) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut agent = pin!(super::run(
        settings,
        || {
            // Nobody waits for it after a signal.
            let _ = serving.send(());
        },
        async {
            let _ = stopped.await;
        },
    ));
    let mut app: Option<Child> = None;
    let code = loop {
        tokio::select! {
            // An agent that ends at once, for want of a token perhaps, must be seen before its command is started.
            biased;
            outcome = &mut agent => {
                if let (Some(app), Err(error)) = (&mut app, &outcome) {
                    tracing::error!(%error, code = error.code().name(), "the agent cannot go on; stopping the command");
                    app.stop(patience).await?;
                }
                return outcome.map(|()| 0);
            }
            Ok(()) = &mut served, if app.is_none() => app = Some(start(command, &endpoint)?),
            code = end(&mut app) => break code?,
            received = signals.next() => match &app {
                // How long it may take now is for whoever sent the signal to say, and for the command.
                Some(app) => app.pass_on(received),
                None if is_termination(received.signal) => break 0,
                None => {}
            },
        }
    };
    drop(stop);
    agent.await?;
    Ok(code)
}

fn start(command: &[OsString], endpoint: &OsStr) -> Result<Child, AgentError> {
    let given = std::env::var_os(ENDPOINT);
    let environment = [(ENDPOINT, Some(given.as_deref().unwrap_or(endpoint))), (JOIN_TOKEN, None)];
    Ok(Child::start(command, &environment)?)
}

/// Pends forever while there is no command.
async fn end(app: &mut Option<Child>) -> Result<u8, AgentError> {
    match app {
        Some(app) => Ok(app.wait().await?),
        None => std::future::pending().await,
    }
}

fn endpoint(socket: &Path) -> Result<OsString, AgentError> {
    let absolute = std::path::absolute(socket).map_err(|source| AgentError::File {
        what: "find the directory of",
        path: socket.to_owned(),
        source,
    })?;
    let mut endpoint = OsString::from("unix://");
    endpoint.push(absolute);
    Ok(endpoint)
}

/// Keeps processes of our own user from reading our environment and our memory (ptrace(2), `PTRACE_MODE_READ`).
fn keep_secrets() {
    if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        let error = io::Error::from(errno);
        tracing::warn!(%error, "the command could read the agent's memory");
    }
}
