//! The command line of `svidecar-server`.
//!
//! Owns the spelling of every command and flag, and what they print: SPIRE's, field for field, so that its
//! scripts run unchanged. All but the commands about the settings are clients of the administration socket, by
//! SPIRE's own APIs, so they administer a SPIRE server as well. They must never open the database.

mod agent;
mod bootstrap;
mod bundle;
mod client;
mod console;
mod entry;
mod error;
mod files;
mod health;
mod json;
mod mint;
mod server;
mod token;
mod values;

use std::{
    ffi::OsString,
    io::{self, BufWriter},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;

use self::{client::ServerSocket, console::Console, error::CliError};

/// What `--help` says after the list of commands.
const EXAMPLES: &str = "\
Examples:
  svidecar-server run --config server.yaml
  svidecar-server token generate --spiffe-id spiffe://demo.org/node
  svidecar-server entry create --parent-id spiffe://demo.org/node \\
      --spiffe-id spiffe://demo.org/shop --selector unix:uid:1001
  svidecar-server entry apply -f entries/ --prune --dry-run

SPIRE's spelling of every flag works too: -spiffeID, -parentID, -socketPath, -output json …";

/// The authority of a SPIFFE trust domain: signs identities, keeps entries, agents and bundles
#[derive(Debug, Parser)]
#[command(name = "svidecar-server", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server
    Run(server::SettingsArgs),
    /// Checks the settings just as `run` does, and starts nothing
    Validate(server::SettingsArgs),
    /// Prints settings, where they come from, and their schema
    #[command(subcommand)]
    Config(server::ConfigCommand),
    /// Asks the server whether it is healthy
    Healthcheck(health::HealthArgs),
    /// Generates join tokens, with which agents attest
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Makes a join token for one agent, and the entries of files: all that a fresh stack needs
    Bootstrap(bootstrap::BootstrapArgs),
    /// Registers workloads
    #[command(subcommand)]
    Entry(entry::EntryCommand),
    /// Looks after attested agents
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Looks after our bundle and those of federated trust domains
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Mints X.509-SVIDs without an agent
    #[command(subcommand)]
    X509(mint::X509Command),
    /// Mints JWT-SVIDs without an agent
    #[command(subcommand)]
    Jwt(mint::JwtCommand),
    /// Prints a completion script, for example for `/etc/bash_completion.d`
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// Runs the command that `arguments` (the program's name first) ask for. Exits with 0 when it did what was
/// asked, with 1 when not, as SPIRE's do.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(svidecar_config::args::normalize(arguments)) {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    let (mut out, mut err) = (BufWriter::new(io::stdout()), io::stderr());
    let mut console = Console::of_process(&mut out, &mut err);
    let outcome = execute(command, &mut console).and_then(|()| console.flush());
    finish(outcome, &mut console)
}

/// Help and version go to stdout and are no failure; the rest is the user's mistake.
fn usage(error: &clap::Error) -> ExitCode {
    let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let printed = error.print().is_ok();
    if wanted && printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn finish(outcome: Result<(), CliError>, console: &mut Console<'_>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // A reader that went away (`| head`) has seen what it wanted; nobody is left to be told.
    if !error.is_broken_pipe() {
        console.report(&error);
    }
    ExitCode::FAILURE
}

fn execute(command: Command, console: &mut Console<'_>) -> Result<(), CliError> {
    match command {
        Command::Run(settings) => server::run(&settings),
        Command::Validate(settings) => server::validate(&settings, console),
        Command::Config(command) => server::config(&command, console),
        Command::Completions { shell } => {
            // Into memory first: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "svidecar-server", &mut script);
            Ok(console.out().write_all(&script)?)
        }
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(CliError::Runtime)?;
            runtime.block_on(administer(command, console))
        }
    }
}

/// The commands that ask a running server.
async fn administer(command: Command, console: &mut Console<'_>) -> Result<(), CliError> {
    match command {
        Command::Healthcheck(args) => health::check(args, console).await,
        Command::Token(command) => token::run(command, console).await,
        Command::Bootstrap(args) => bootstrap::run(args, console).await,
        Command::Entry(command) => entry::run(command, console).await,
        Command::Agent(command) => agent::run(command, console).await,
        Command::Bundle(command) => bundle::run(command, console).await,
        Command::X509(command) => mint::x509(command, console).await,
        Command::Jwt(command) => mint::jwt(command, console).await,
        Command::Run(_) | Command::Validate(_) | Command::Config(_) | Command::Completions { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests;
