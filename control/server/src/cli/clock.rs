//! `clock show|accept`.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use svidecar_api::svidecar::server::v1::{AcceptClockRequest, ClockStatus, GetClockRequest};
use svidecar_process::console::{Console, OutputArgs};
use tonic::Code;

use super::{CliError, ServerSocket, output};

#[derive(Debug, Subcommand)]
pub(super) enum ClockCommand {
    /// Shows the server's clock, and whether the server believes it
    Show(ShowArgs),
    /// Says that the server's clock is right: what has ended by it is deleted from then on
    Accept(AcceptArgs),
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct AcceptArgs {
    /// Does it; without it, it is only said what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn run(command: ClockCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        ClockCommand::Show(args) => {
            let status = status(&args.server).await?;
            output::print(console, args.output, &status, show)
        }
        ClockCommand::Accept(args) => accept(args, console).await,
    }
}

async fn status(server: &ServerSocket) -> Result<ClockStatus, CliError> {
    Ok(server.clock().await?.get_clock(GetClockRequest {}).await?.into_inner())
}

async fn accept(args: AcceptArgs, console: &mut Console) -> Result<(), CliError> {
    let before = status(&args.server).await?;
    if !before.believed && !args.yes {
        return Err(CliError::Message(format!(
            "{}. If {} is the right time, run this again with --yes: entries, join tokens and CA keys that have ended by it \
             are deleted then. If it is not, set the clock; the server goes on by itself",
            before.doubt,
            time(before.now)
        )));
    }
    let request = AcceptClockRequest { now: before.now };
    let status = args.server.clock().await?.accept_clock(request).await?.into_inner();
    output::print(console, args.output, &status, show)
}

/// That the server believes its clock, before something is deleted by the time. Another server than ours does not say.
pub(super) async fn check(server: &ServerSocket) -> Result<(), CliError> {
    match status(server).await {
        Ok(status) if status.believed => Ok(()),
        Ok(status) => Err(CliError::Message(format!(
            "nothing is deleted, because the server does not believe its clock: {}; see `svidecar-server clock show`",
            status.doubt
        ))),
        Err(CliError::Rpc(status)) if status.code() == Code::Unimplemented => Ok(()),
        Err(error) => Err(error),
    }
}

fn show(status: &ClockStatus, console: &mut Console) -> Result<(), CliError> {
    writeln!(console.out(), "Time              : {}", time(status.now))?;
    writeln!(console.out(), "Believed          : {}", if status.believed { "yes" } else { "no" })?;
    if !status.believed {
        writeln!(console.out(), "Expected          : {}", time(status.expected))?;
        writeln!(console.out(), "Why               : {}", status.doubt)?;
    }
    Ok(())
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
