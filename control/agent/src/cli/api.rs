//! `api …`: the Workload API from the command line. Works with any agent that serves it.

mod jwt;
mod x509;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use svidecar_api::{
    WORKLOAD_API_HEADER,
    transport::{Endpoint, uds},
    workload::spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use svidecar_config::HumanDuration;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

use super::{
    console::{Console, OutputArgs},
    error::CliError,
};

/// `api …`
#[derive(Debug, Subcommand)]
pub enum ApiCommand {
    /// Fetches SVIDs; X.509 unless told otherwise
    #[command(args_conflicts_with_subcommands = true)]
    Fetch {
        #[command(subcommand)]
        what: Option<FetchCommand>,
        #[command(flatten)]
        x509: X509Args,
    },
    /// Validates what others present
    #[command(subcommand)]
    Validate(ValidateCommand),
    /// Prints X.509-SVIDs as they come, until interrupted
    Watch {
        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// `api fetch …`
#[derive(Debug, Subcommand)]
pub enum FetchCommand {
    /// Fetches X.509-SVIDs
    X509(X509Args),
    /// Fetches JWT-SVIDs
    Jwt(JwtArgs),
}

/// `api validate …`
#[derive(Debug, Subcommand)]
pub enum ValidateCommand {
    /// Validates a JWT-SVID
    Jwt(ValidateJwtArgs),
}

/// Which agent.
#[derive(Args, Debug)]
pub struct SocketArgs {
    /// The Workload API's socket: a path, or unix:///PATH or tcp://IP:PORT
    #[arg(
        long,
        value_name = "PATH",
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "/tmp/spire-agent/public/api.sock"
    )]
    socket_path: String,
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
    socket: SocketArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// Prints nothing
    #[arg(long)]
    silent: bool,
    /// Writes SVIDs, keys and bundles into this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// `api fetch jwt`
#[derive(Args, Debug)]
pub struct JwtArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// For whom the token is; several with commas
    #[arg(long, value_delimiter = ',', required = true)]
    audience: Vec<String>,
    /// Only for this identity
    #[arg(long, value_name = "SPIFFE-ID")]
    spiffe_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// `api validate jwt`
#[derive(Args, Debug)]
pub struct ValidateJwtArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// For whom the token has to be
    #[arg(long)]
    audience: String,
    /// The token
    #[arg(long)]
    svid: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `api …`.
///
/// # Errors
/// When the agent does not give what is asked for.
pub async fn run(command: ApiCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        ApiCommand::Fetch { what: Some(FetchCommand::X509(args)), .. }
        | ApiCommand::Fetch { what: None, x509: args } => x509::fetch(args, console).await,
        ApiCommand::Fetch { what: Some(FetchCommand::Jwt(args)), .. } => jwt::fetch(args, console).await,
        ApiCommand::Validate(ValidateCommand::Jwt(args)) => jwt::validate(args, console).await,
        ApiCommand::Watch { socket } => x509::watch(socket, console).await,
    }
}

impl SocketArgs {
    /// Connects to it.
    ///
    /// # Errors
    /// When nobody is there.
    pub async fn connect(&self) -> Result<Channel, CliError> {
        match Endpoint::parse(&self.socket_path)? {
            Endpoint::Unix(path) => Ok(uds::connect(path).await?),
            Endpoint::Tcp(address) => {
                let failed = |error| CliError::Tcp { address, error };
                let endpoint = Channel::from_shared(format!("http://{address}"));
                let endpoint = endpoint.map_err(|error| CliError::message(error.to_string()))?;
                endpoint.connect().await.map_err(failed)
            }
        }
    }

    async fn client(&self) -> Result<SpiffeWorkloadApiClient<Channel>, CliError> {
        Ok(SpiffeWorkloadApiClient::new(self.connect().await?)
            .max_decoding_message_size(crate::server::MAX_MESSAGE))
    }
}

impl TimeoutArgs {
    fn get(&self) -> Duration {
        self.timeout.get()
    }

    /// Waits, but not longer.
    async fn within<T>(&self, call: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        match tokio::time::timeout(self.get(), call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CliError::Message(format!("no answer within {}", self.timeout))),
        }
    }
}

/// A request with the header that the Workload API requires.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(WORKLOAD_API_HEADER, MetadataValue::from_static("true"));
    request
}
