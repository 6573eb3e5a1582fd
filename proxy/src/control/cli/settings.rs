//! The commands about the settings: `run`, `check`, `config`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use svidecar_config::proxy::ProxySettings;
use svidecar_process::{
    command::Failure as _,
    console::{Console, Format, OutputArgs},
    settings::{self, LogArgs, SettingsArgs as _},
};

use super::error::CliError;
use crate::plan::{Inbound, Plan, tls::TlsSource};

/// Where settings come from: flags win over variables (`SVIDECAR_PROXY_LOG__LEVEL`), and those over the file.
#[derive(Args, Debug, Default)]
pub(super) struct SettingsArgs {
    /// The configuration file, YAML [default: the variable SVIDECAR_PROXY_CONFIG]
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The Workload API: unix:///PATH or tcp://IP:PORT
    #[arg(long, value_name = "URI")]
    workload_api: Option<String>,
    /// The trust domain that our SVID must be of
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// Threads that move data: a number, or auto
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// Where health, metrics and status are served, or off
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// The app: started when the proxy is ready, told to stop when the proxy is, and its exit code is ours
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl settings::SettingsArgs for SettingsArgs {
    type Settings = ProxySettings;

    const PREFIX: &'static str = "SVIDECAR_PROXY";

    fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = vec![
            ("workload_api", self.workload_api.clone().into()),
            ("trust_domain", self.trust_domain.clone().into()),
            ("workers", self.workers.clone().into()),
            ("admin.listen", self.admin_listen.clone().into()),
        ];
        flags.extend(self.log.flags());
        flags
    }
}

/// Runs the proxy, and the command beside it.
pub(super) fn run(args: RunArgs) -> Result<ExitCode, CliError> {
    let command = Some(args.command).filter(|command| !command.is_empty());
    Ok(crate::control::run::run(args.settings.loader(), command)?)
}

/// One policy of a valid configuration.
#[derive(Serialize)]
struct CheckedPolicy {
    file: PathBuf,
    rules: usize,
    tests: usize,
}

/// Compiles everything that `run` compiles.
pub(super) fn check(args: &CheckArgs, console: &mut Console) -> Result<ExitCode, CliError> {
    let checked = args.settings.load().map_err(CliError::from).and_then(|loaded| compile(loaded.value));
    match (args.output.output, checked) {
        (Format::Pretty, checked) => {
            for CheckedPolicy { file, rules, tests } in checked? {
                console.line(format!("{}: {rules} rules, {tests} tests passed", file.display()))?;
                if tests == 0 {
                    console.line("    help: a policy without `tests:` is changed in good faith only")?;
                }
            }
            console.line("The configuration of svidecar is valid.")?;
            Ok(ExitCode::SUCCESS)
        }
        (Format::Json, Ok(policies)) => {
            console.json_indented(&json!({"valid": true, "policies": policies}))?;
            Ok(ExitCode::SUCCESS)
        }
        (Format::Json, Err(error)) => {
            console.json_indented(&json!({"valid": false, "problems": error.problems()}))?;
            Ok(error.exit_code())
        }
    }
}

fn compile(settings: ProxySettings) -> Result<Vec<CheckedPolicy>, CliError> {
    let plan = Plan::compile(settings, &TlsSource::default(), None)?;
    let checked = |inbound: &Arc<Inbound>| CheckedPolicy {
        file: inbound.settings.policy.clone(),
        rules: inbound.policy.rules().len(),
        tests: inbound.policy.run_tests().len(),
    };
    Ok(plan.inbound.iter().map(checked).collect())
}
