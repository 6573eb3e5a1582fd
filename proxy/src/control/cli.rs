//! The command line of `svidecar`.
//!
//! Owns the spelling of commands and flags, what they print, and the exit codes. A command that asks a running
//! proxy is a client of its admin listener; a command about files reads them as `run` does. It must never decide
//! anything that the data path decides differently.

mod admin;
mod error;
mod policy;
mod settings;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use svidecar_process::{
    Console, WrapperError,
    command::{self, CommandLine, CompletionsArgs},
    settings::ConfigCommand,
};

use self::error::{CliError, EXIT_USAGE};
use crate::error::ProxyError;

/// What `--help` says after the list of commands.
const EXAMPLES: &str = "\
Examples:
  svidecar run --config proxy.yaml               run beside a workload that is started elsewhere
  svidecar run --config proxy.yaml -- ./app -v   wait until ready, start the app, end with it
  svidecar check --config proxy.yaml             check settings and policies, run the policies' tests
  svidecar wait --timeout 1m                     wait until the running proxy is ready
  svidecar status                                what is missing, and why
  svidecar policy test policies/*.yaml           run the tests inside policies
  svidecar policy explain --policy orders.yaml --peer spiffe://demo.org/shop GET /orders/7

Exit codes:
  0   done; `policy explain`: allowed; `run -- COMMAND`: the command ended with 0
  1   not done; not ready; a test failed; `policy explain`: denied
  64  the command line, the settings or a policy are wrong
  `run -- COMMAND` ends with the command's own code, or 128 and the signal that ended it.

Settings also come from variables (SVIDECAR_PROXY_LOG__LEVEL=debug), and SPIFFE_ENDPOINT_SOCKET and
SPIFFE_TRUST_DOMAIN are understood.";

/// Gives an unmodified app an identity, mutual TLS and authorization
#[derive(Debug, Parser)]
#[command(name = "svidecar", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the proxy, and with `-- COMMAND` the app beside it
    Run(settings::RunArgs),
    /// Checks settings and policies just as `run` does, and starts nothing
    Check(settings::CheckArgs),
    /// Waits until the running proxy is ready
    Wait(admin::WaitArgs),
    /// Says how the running proxy is; ends with 1 when it is not ready
    Status(admin::StatusArgs),
    /// Tests and explains policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Prints settings, where they come from, and their schema
    #[command(subcommand)]
    Config(ConfigCommand<settings::SettingsArgs>),
    /// Prints a completion script, for example for `/etc/bash_completion.d`
    Completions(CompletionsArgs),
}

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    command::main::<Cli>(arguments)
}

impl CommandLine for Cli {
    type Error = CliError;

    const WRONG_USAGE: u8 = EXIT_USAGE;

    fn without_command(&self) -> Option<CliError> {
        matches!(self.command, Command::Run(_)).then(|| ProxyError::App(WrapperError::NoCommand).into())
    }

    fn execute(self, console: &mut Console) -> Result<ExitCode, CliError> {
        match self.command {
            Command::Run(args) => settings::run(args),
            Command::Check(args) => settings::check(&args, console),
            Command::Wait(args) => command::runtime()?.block_on(admin::wait(&args, console)),
            Command::Status(args) => command::runtime()?.block_on(admin::status(&args, console)),
            Command::Policy(command) => policy::execute(&command, console),
            Command::Completions(args) => {
                args.print::<Self>(console)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Config(command) => {
                command.run::<CliError>(console)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

#[cfg(test)]
mod tests;
