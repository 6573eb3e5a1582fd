//! The commands about policies: `policy test` and `policy explain`.

mod explain;
mod source;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Serialize;
use svidecar_policy::TestOutcome;
use svidecar_process::console::{Colour, Console, Format, OutputArgs};

use self::source::{inbound, protocol, read};
use super::{error::CliError, settings::SettingsArgs};

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Runs the tests inside policies
    Test(TestArgs),
    /// Says what a policy decides about a request, and what each rule says
    Explain(explain::ExplainArgs),
}

const TEST_EXAMPLES: &str = "\
Examples:
  svidecar policy test policies/*.yaml
  svidecar policy test --config proxy.yaml        all policies of the settings, also those of tcp listeners
  svidecar policy test --output json orders.yaml

A test is an entry of `tests:` in the policy:
  - {peer: spiffe://demo.org/shop, request: POST /orders, expect: allow, rule: shop-may-order}";

#[derive(Args, Debug)]
#[command(after_help = TEST_EXAMPLES)]
pub(super) struct TestArgs {
    /// The policies [default: those of the settings]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The files are policies of tcp listeners
    #[arg(long, requires = "files")]
    tcp: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn execute(command: &PolicyCommand, console: &mut Console) -> Result<ExitCode, CliError> {
    match command {
        PolicyCommand::Test(args) => test(args, console),
        PolicyCommand::Explain(args) => explain::explain(args, console),
    }
}

/// The outcomes of one file, for programs.
#[derive(Serialize)]
struct FileOutcome {
    file: PathBuf,
    tests: Vec<TestOutcome>,
}

fn test(args: &TestArgs, console: &mut Console) -> Result<ExitCode, CliError> {
    let files = match args.files.as_slice() {
        [] => inbound(&args.settings)?
            .into_iter()
            .map(|listener| (listener.policy, listener.protocol))
            .collect(),
        files => files.iter().map(|file| (file.clone(), protocol(args.tcp))).collect::<Vec<_>>(),
    };
    let mut outcomes = Vec::new();
    for (file, protocol) in files {
        let tests = read(&file, protocol)?.run_tests();
        outcomes.push(FileOutcome { file, tests });
    }
    match args.output.output {
        Format::Json => console.json_indented(&outcomes)?,
        Format::Pretty => outcomes.iter().try_for_each(|outcome| print(outcome, console))?,
    }
    let passed = outcomes.iter().flat_map(|outcome| &outcome.tests).all(|test| test.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(outcome: &FileOutcome, console: &mut Console) -> Result<(), CliError> {
    let file = outcome.file.display();
    for test in &outcome.tests {
        if test.passed {
            console.line(format!("{}  {}", console.paint(Colour::Green, "pass"), test.name))?;
        } else {
            console.line(format!("{}  {}", console.paint(Colour::Red, "FAIL"), test.name))?;
            console.line(format!("      {file}:{}:{}: {}", test.line, test.column, test.message))?;
        }
    }
    let failed = outcome.tests.iter().filter(|test| !test.passed).count();
    Ok(console.line(format!("{file}: {} passed, {failed} failed", outcome.tests.len() - failed))?)
}

#[cfg(test)]
pub(in crate::control::cli) mod tests;
