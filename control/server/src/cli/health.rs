//! `healthcheck`.

use clap::Args;
use svidecar_process::Console;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::{CliError, ServerSocket};

#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    /// Accepted for the sake of scripts; the check is cheap
    #[arg(long)]
    shallow: bool,
    /// Says what it does
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    server: ServerSocket,
}

/// Asks, and says `Server is healthy.` or why not.
pub(super) async fn check(args: HealthArgs, console: &mut Console) -> Result<(), CliError> {
    if args.verbose {
        writeln!(console.out(), "Checking server health...")?;
    }
    let status = match ask(&args).await {
        Ok(status) => status,
        Err(error) => {
            if args.verbose {
                writeln!(console.err(), "Failed to check health: {error}")?;
            }
            return Err(CliError::message("server is unhealthy: unable to determine health"));
        }
    };
    if status == ServingStatus::Serving {
        return Ok(writeln!(console.out(), "Server is healthy.")?);
    }
    Err(CliError::Message(format!(
        "server is unhealthy: server returned status \"{}\"",
        status.as_str_name()
    )))
}

async fn ask(args: &HealthArgs) -> Result<ServingStatus, CliError> {
    let answer = args.server.health().await?.check(HealthCheckRequest::default()).await?;
    Ok(answer.into_inner().status())
}
