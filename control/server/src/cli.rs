//! The command line of `svidecar-server`.
//!
//! Owns the spelling of every command and flag, and what they print: SPIRE's, field for field, so that its
//! scripts run unchanged. All but the commands about the settings are clients of the administration socket, by
//! SPIRE's own APIs, so they administer a SPIRE server as well. But for `restore`, which is for
//! the day when no server runs, they must never open the database.

mod agent;
mod authority;
mod backup;
mod bootstrap;
mod bundle;
mod client;
mod clock;
mod entry;
mod error;
mod files;
mod health;
mod json;
mod mint;
mod output;
mod server;
mod token;
mod values;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use svidecar_process::{
    Console,
    command::{self, CommandLine, CompletionsArgs},
    settings::ConfigCommand,
};

use self::{client::ServerSocket, error::CliError};

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
    Config(ConfigCommand<server::SettingsArgs>),
    /// Writes the database and all keys into one file, while the server runs
    Backup(backup::BackupArgs),
    /// Puts a backup into `data_dir` of a server that does not run
    Restore(backup::RestoreArgs),
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
    /// Looks after the keys that others believe the server by
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Shows the server's clock, and says that it is right
    #[command(subcommand)]
    Clock(clock::ClockCommand),
    /// Mints X.509-SVIDs without an agent
    #[command(subcommand)]
    X509(mint::X509Command),
    /// Mints JWT-SVIDs without an agent
    #[command(subcommand)]
    Jwt(mint::JwtCommand),
    /// Prints a completion script, for example for `/etc/bash_completion.d`
    Completions(CompletionsArgs),
}

/// Runs the command that `arguments` (the program's name first) ask for. Exits with 0 when it did what was
/// asked, with 1 when not, as SPIRE's do.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    command::main::<Cli>(arguments)
}

/// The same, with a console of the caller's.
pub fn run(arguments: impl IntoIterator<Item = OsString>, console: &mut Console) -> ExitCode {
    command::run::<Cli>(arguments, console)
}

impl CommandLine for Cli {
    type Error = CliError;

    fn execute(self, console: &mut Console) -> Result<ExitCode, CliError> {
        match self.command {
            Command::Run(settings) => server::run(&settings)?,
            Command::Validate(settings) => server::validate(&settings, console)?,
            Command::Config(command) => command.run::<CliError>(console)?,
            Command::Completions(args) => args.print::<Self>(console)?,
            Command::Restore(args) => backup::restore(&args, console)?,
            command => {
                let runtime = command::runtime().map_err(CliError::Runtime)?;
                runtime.block_on(administer(command, console))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The commands that ask a running server.
async fn administer(command: Command, console: &mut Console) -> Result<(), CliError> {
    match command {
        Command::Healthcheck(args) => health::check(args, console).await,
        Command::Token(command) => token::run(command, console).await,
        Command::Bootstrap(args) => bootstrap::run(args, console).await,
        Command::Entry(command) => entry::run(command, console).await,
        Command::Agent(command) => agent::run(command, console).await,
        Command::Bundle(command) => bundle::run(command, console).await,
        Command::Backup(args) => backup::backup(args, console).await,
        Command::Authority(command) => authority::run(command, console).await,
        Command::Clock(command) => clock::run(command, console).await,
        Command::X509(command) => mint::x509(command, console).await,
        Command::Jwt(command) => mint::jwt(command, console).await,
        Command::Run(_)
        | Command::Validate(_)
        | Command::Config(_)
        | Command::Completions(_)
        | Command::Restore(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
