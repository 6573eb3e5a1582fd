//! `api …`: the Workload API from the command line. Works with any agent that serves it.

pub mod args;
mod jwt;
mod x509;

use clap::Subcommand;
use svidecar_process::Console;

use self::args::{JwtArgs, SocketArgs, ValidateJwtArgs, X509Args};
use super::error::CliError;

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
