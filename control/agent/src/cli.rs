//! The command line of `svidecar-agent`.
//!
//! Owns the spelling of every command and flag, and what they print: SPIRE's, so that its scripts run
//! unchanged. All but the commands about the settings are clients: `api` of any Workload API, `why` and
//! `healthcheck` of this agent's sockets.

mod api;
mod error;
mod health;
mod settings;
mod why;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use svidecar_process::{
    Console, WrapperError,
    command::{self, CommandLine, CompletionsArgs},
    settings::ConfigCommand,
};

use self::error::CliError;

/// What `--help` says after the list of commands.
const EXAMPLES: &str = "\
Examples:
  svidecar-agent run --config agent.yaml
  svidecar-agent run --server-address server.internal --trust-domain demo.org --data-dir /var/lib/agent \\
      --join-token TOKEN
  svidecar-agent run --config agent.yaml -- svidecar run --config proxy.yaml -- ./app
  svidecar-agent api fetch x509 --write /tmp/svid
  svidecar-agent api fetch jwt --audience orders
  svidecar-agent why --pid 4711 --data-dir /var/lib/agent

SPIRE's spelling of every flag works too: -socketPath, -joinToken, -spiffeID, -output json …";

/// Gives the workloads of one node their SPIFFE identities
#[derive(Debug, Parser)]
#[command(name = "svidecar-agent", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent, and with `-- COMMAND` the command that needs it
    ///
    /// With a command the agent is all that a machine or container has to start: for places where nobody else starts
    /// processes. `svidecar-agent run --config agent.yaml -- svidecar run --config proxy.yaml -- ./app` runs agent, sidecar
    /// and app; as PID 1 it also buries orphans. The command ends with the agent and the agent with the command.
    Run(settings::RunArgs),
    /// Checks the settings just as `run` does, and starts nothing
    Validate(settings::SettingsArgs),
    /// Prints settings, where they come from, and their schema
    #[command(subcommand)]
    Config(ConfigCommand<settings::SettingsArgs>),
    /// Asks the agent whether it is healthy
    Healthcheck(health::HealthArgs),
    /// Uses the Workload API as a workload would
    #[command(subcommand)]
    Api(api::ApiCommand),
    /// Says which identities a process has, and what the closest other entries ask for in vain
    Why(why::WhyArgs),
    /// Prints a completion script, for example for `/etc/bash_completion.d`
    Completions(CompletionsArgs),
}

/// Runs the command that `arguments` (the program's name first) ask for. Exits with 0 when it did what was
/// asked, with 1 when not, as SPIRE's do; `run -- COMMAND` with the command's own code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    command::main::<Cli>(arguments)
}

impl CommandLine for Cli {
    type Error = CliError;

    fn without_command(&self) -> Option<CliError> {
        matches!(self.command, Command::Run(_)).then_some(CliError::Command(WrapperError::NoCommand))
    }

    fn execute(self, console: &mut Console) -> Result<ExitCode, CliError> {
        match self.command {
            Command::Run(args) => return settings::run(args),
            Command::Validate(args) => settings::validate(&args, console)?,
            Command::Config(command) => command.run::<CliError>(console)?,
            Command::Completions(args) => args.print::<Self>(console)?,
            command => command::runtime()?.block_on(ask(command, console))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The commands that ask a running agent.
async fn ask(command: Command, console: &mut Console) -> Result<(), CliError> {
    match command {
        Command::Healthcheck(args) => health::check(args, console).await,
        Command::Api(command) => api::run(command, console).await,
        Command::Why(args) => why::run(args, console).await,
        Command::Run(_) | Command::Validate(_) | Command::Config(_) | Command::Completions(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use svidecar_process::{args, testing::closed};

    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        line.split(' ').map(OsString::from)
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(args::normalize(words(line)))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn spires_command_lines_are_understood() {
        for line in [
            "agent run -config agent.conf -joinToken abc -trustBundle /b.pem -insecureBootstrap -logLevel DEBUG",
            "agent run -serverAddress s -serverPort 8081 -trustDomain demo.org -dataDir /d -socketPath /s",
            "agent validate -config agent.conf",
            "agent healthcheck -socketPath /s -shallow -verbose",
            "agent healthcheck --verbose --data-dir /d",
            "agent api fetch",
            "agent api fetch -write /tmp -silent -timeout 5s -socketPath /s",
            "agent api fetch x509 -write /tmp -output json",
            "agent api fetch jwt -audience a,b -spiffeID spiffe://demo.org/a -socketPath /s",
            "agent api validate jwt -audience a -svid token",
            "agent api watch -socketPath /s",
            "agent config show --effective --config agent.yaml",
            "agent why --pid 1 --data-dir /d",
            "agent completions bash",
            "agent run -config agent.yaml -- app -joinToken x",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
        assert!(parse("agent api fetch jwt").is_err());
        assert!(parse("agent run -unknownFlag").is_err());
    }

    #[test]
    fn a_reader_that_went_away_is_no_panic() {
        for line in [
            "agent completions bash",
            "agent config schema",
            "agent config show --effective --trust-domain demo.org --server-address s --data-dir /d",
        ] {
            let (mut console, seen) = closed();
            assert_eq!(command::run::<Cli>(words(line), &mut console), ExitCode::FAILURE, "{line}");
            assert_eq!(seen.err(), "", "{line}");
        }
    }
}
