//! A client of the admin listener: one GET, one bounded JSON answer.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use svidecar_process::http::Get;
use tokio::net::TcpStream;

use crate::control::cli::error::CliError;

/// For a whole request; the proxy is on this machine.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer is the settings of a proxy with many listeners.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Asks one proxy.
pub(super) struct AdminClient {
    address: String,
}

impl AdminClient {
    /// A client of the admin at `HOST:PORT`.
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// Gets a page as JSON, whatever its status.
    pub(super) async fn get(&self, path: &str) -> Result<(StatusCode, Value), CliError> {
        let get = Get { host: &self.address, path, time: TIMEOUT, body: MAX_BODY };
        let answer = get.on(TcpStream::connect(&self.address)).await;
        let (status, body) = answer.map_err(|error| self.problem(error.to_string()))?;
        let value = serde_json::from_slice(&body).map_err(|_| {
            self.problem(format!("{path} gave {status} and no JSON, so this is not svidecar's admin"))
        })?;
        Ok((status, value))
    }

    /// What went wrong, with the address.
    pub(super) fn problem(&self, problem: impl Into<String>) -> CliError {
        CliError::Admin { address: self.address.clone(), problem: problem.into() }
    }
}
