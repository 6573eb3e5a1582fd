//! `healthcheck`.

use std::io::Write as _;

use clap::Args;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{api::SocketArgs, console::Console, error::CliError};

/// `healthcheck`
#[derive(Args, Debug)]
pub struct HealthArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Accepted for the sake of scripts; the check is cheap
    #[arg(long)]
    shallow: bool,
    /// Says what it does
    #[arg(long)]
    verbose: bool,
}

/// Asks, and says `Agent is healthy.` or why not.
///
/// # Errors
/// When it is not.
pub async fn check(args: HealthArgs, console: &mut Console) -> Result<(), CliError> {
    if args.verbose {
        writeln!(console, "Checking agent health...")?;
    }
    let status = match ask(&args).await {
        Ok(status) => status,
        Err(error) => {
            if args.verbose {
                console.note(&format!("Failed to check health: {error}"))?;
            }
            return Err(CliError::message("Agent is unhealthy: unable to determine health"));
        }
    };
    if status == ServingStatus::Serving {
        return Ok(writeln!(console, "Agent is healthy.")?);
    }
    Err(CliError::Message(format!("Agent is unhealthy: agent returned status \"{}\"", status.as_str_name())))
}

async fn ask(args: &HealthArgs) -> Result<ServingStatus, CliError> {
    let mut client = HealthClient::new(args.socket.connect().await?);
    Ok(client.check(HealthCheckRequest::default()).await?.into_inner().status())
}
