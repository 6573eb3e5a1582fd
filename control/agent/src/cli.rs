//! The command line of `svidecar-agent`.
//!
//! Owns the spelling of every command and flag, and what they print: SPIRE's, so that its scripts run
//! unchanged. All but the commands about the settings are clients: `api` of any Workload API, `why` and
//! `healthcheck` of this agent's sockets.

mod api;
mod console;
mod error;
mod health;
mod settings;
mod why;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use svidecar_process::WrapperError;

use self::{console::Console, error::CliError};

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
    Config(settings::ConfigCommand),
    /// Asks the agent whether it is healthy
    Healthcheck(health::HealthArgs),
    /// Uses the Workload API as a workload would
    #[command(subcommand)]
    Api(api::ApiCommand),
    /// Says which identities a process has, and what the closest other entries ask for in vain
    Why(why::WhyArgs),
    /// Prints a completion script, for example for `/etc/bash_completion.d`
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// Runs the command that `arguments` (the program's name first) ask for. Exits with 0 when it did what was
/// asked, with 1 when not, as SPIRE's do; `run -- COMMAND` with the command's own code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = svidecar_config::args::normalize(arguments);
    let without_command = svidecar_config::args::ends_with_separator(&arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut console = Console::default();
    let outcome = match cli.command {
        Command::Run(_) if without_command => Err(CliError::Command(WrapperError::NoCommand)),
        command => execute(command, &mut console),
    };
    outcome.unwrap_or_else(|error| {
        console.report(&error);
        ExitCode::FAILURE
    })
}

fn execute(command: Command, console: &mut Console) -> Result<ExitCode, CliError> {
    match command {
        Command::Run(args) => return settings::run(args),
        Command::Validate(args) => settings::validate(&args, console)?,
        Command::Config(command) => settings::config(&command, console)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "svidecar-agent", console);
        }
        Command::Healthcheck(args) => client(health::check(args, console))?,
        Command::Api(command) => client(api::run(command, console))?,
        Command::Why(args) => client(why::run(args, console))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that asks a running agent.
fn client(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Help and version go to stdout and are no failure; the rest is the user's mistake.
fn usage(error: &clap::Error) -> ExitCode {
    let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let printed = error.print().is_ok();
    if wanted && printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = line.split(' ').map(OsString::from);
        Cli::try_parse_from(svidecar_config::args::normalize(words))
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
}
