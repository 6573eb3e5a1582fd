//! The commands about the settings: `run`, `check`, `config show`, `config schema`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use svidecar_config::{
    load::{Loaded, Origin},
    proxy::ProxySettings,
    show,
};
use svidecar_process::{
    command::Failure as _,
    console::{Format, OutputArgs},
};

use super::{CliError, Console};
use crate::{
    control::run::ProxyOptions,
    plan::{Inbound, Plan, tls::TlsSource},
};

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
    /// Least important level that is logged
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How logs are written: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The app: started when the proxy is ready, told to stop when the proxy is, and its exit code is ours
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Prints the settings with their values and where each comes from
    Show(ShowArgs),
    /// Prints the JSON Schema of the configuration file, for editors
    Schema,
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Also the settings that nobody set
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl SettingsArgs {
    /// The options of a proxy with these settings.
    fn options(&self) -> ProxyOptions {
        let given = |value: &Option<String>| value.clone().map_or(Value::Null, Value::String);
        let overrides = [
            ("workload_api", given(&self.workload_api)),
            ("trust_domain", given(&self.trust_domain)),
            ("workers", given(&self.workers)),
            ("admin.listen", given(&self.admin_listen)),
            ("log.level", given(&self.log_level)),
            ("log.format", given(&self.log_format)),
        ];
        let overrides = overrides.map(|(key, value)| (key.to_owned(), value)).to_vec();
        ProxyOptions { config: self.config.clone(), overrides, child: None }
    }

    /// Reads the settings as `run` does.
    pub(super) fn load(&self) -> Result<Loaded<ProxySettings>, CliError> {
        Ok(self.options().loader().load()?)
    }
}

impl From<RunArgs> for ProxyOptions {
    fn from(args: RunArgs) -> Self {
        let child = Some(args.command).filter(|command| !command.is_empty());
        Self { child, ..args.settings.options() }
    }
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
    let checked = args.settings.load().and_then(|loaded| compile(loaded.value));
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

pub(super) fn config(command: &ConfigCommand, console: &mut Console) -> Result<ExitCode, CliError> {
    match command {
        ConfigCommand::Schema => show::write_schema::<ProxySettings>(&mut console.out())?,
        ConfigCommand::Show(args) => {
            let mut settings = args.settings.load()?.effective();
            if !args.effective {
                settings.retain(|setting| setting.origin != Origin::Default);
            }
            match args.output.output {
                Format::Pretty => show::write_text(&settings, &mut console.out())?,
                Format::Json => show::write_json(&settings, &mut console.out())?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
