//! The flags of `api …`: which agent, how long to wait, and what for.

use std::path::PathBuf;

use clap::Args;
use svidecar_api::transport::{Endpoint, Usual};
use svidecar_config::{HumanDuration, place};
use svidecar_process::console::OutputArgs;
use svidecar_workload::{Client, dial};
use tonic::transport::Channel;

use crate::cli::error::CliError;

/// Which agent.
#[derive(Args, Debug)]
pub struct SocketArgs {
    /// The Workload API's socket: a path, or unix:///PATH or tcp://IP:PORT. Default: /run/svidecar/api.sock, of users other than
    /// root $XDG_RUNTIME_DIR/svidecar/api.sock, or SPIRE's where it is
    #[arg(long, value_name = "PATH", env = "SPIFFE_ENDPOINT_SOCKET")]
    socket_path: Option<String>,
}

/// How long to wait.
#[derive(Args, Debug)]
pub struct TimeoutArgs {
    /// Longest wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: HumanDuration,
}

/// `api fetch x509`
#[derive(Args, Debug)]
pub struct X509Args {
    #[command(flatten)]
    pub socket: SocketArgs,
    #[command(flatten)]
    pub timeout: TimeoutArgs,
    /// Prints nothing
    #[arg(long)]
    pub silent: bool,
    /// Writes SVIDs, keys and bundles into this directory
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `api fetch jwt`
#[derive(Args, Debug)]
pub struct JwtArgs {
    #[command(flatten)]
    pub socket: SocketArgs,
    #[command(flatten)]
    pub timeout: TimeoutArgs,
    /// For whom the token is; several with commas
    #[arg(long, value_delimiter = ',', required = true)]
    pub audience: Vec<String>,
    /// Only for this identity
    #[arg(long, value_name = "SPIFFE-ID")]
    pub spiffe_id: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `api validate jwt`
#[derive(Args, Debug)]
pub struct ValidateJwtArgs {
    #[command(flatten)]
    pub socket: SocketArgs,
    #[command(flatten)]
    pub timeout: TimeoutArgs,
    /// For whom the token has to be
    #[arg(long)]
    pub audience: String,
    /// The token
    #[arg(long)]
    pub svid: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl SocketArgs {
    /// Connects to it.
    ///
    /// # Errors
    /// When nobody is there.
    pub async fn connect(&self) -> Result<Channel, CliError> {
        let endpoint = match &self.socket_path {
            Some(text) => Endpoint::parse(text)?,
            None => {
                let place::Usual { ours, anybodys } = place::workload_sockets();
                Endpoint::Usual(Usual::new(ours, anybodys))
            }
        };
        Ok(dial(&endpoint).await?)
    }

    /// Connects to its Workload API.
    ///
    /// # Errors
    /// When nobody is there.
    pub async fn client(&self) -> Result<Client, CliError> {
        Ok(Client::over(self.connect().await?))
    }
}

impl TimeoutArgs {
    /// Waits, but not longer.
    ///
    /// # Errors
    /// As `call`, or when it took too long.
    pub async fn within<T>(&self, call: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        match tokio::time::timeout(self.timeout.get(), call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CliError::Message(format!("no answer within {}", self.timeout))),
        }
    }
}
