//! The commands that ask a running proxy: `wait` and `status`.

mod client;

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use svidecar_config::{HumanDuration, address::ListenAddress};
use svidecar_process::{
    clock,
    console::{Colour, Console, Format, OutputArgs},
    settings::SettingsArgs as _,
};

use self::client::AdminClient;
use super::{error::CliError, settings::SettingsArgs};

/// How often a proxy that is not ready is asked again.
const POLL: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
struct AdminArgs {
    /// Where the proxy's admin listens [default: `admin.listen` of the settings]
    #[arg(long, value_name = "HOST:PORT", env = "SVIDECAR_ADMIN")]
    admin: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

const WAIT_EXAMPLES: &str = "\
Examples:
  svidecar wait --config proxy.yaml && ./app
  svidecar wait --admin 127.0.0.1:15000 --timeout 30s

While it waits it says on stderr what is missing, and why, whenever that changes.";

const STATUS_EXAMPLES: &str = "\
Examples:
  svidecar status
  svidecar status --output json | jq .certs
  HEALTHCHECK CMD [\"svidecar\", \"status\", \"--quiet\"]";

#[derive(Args, Debug)]
#[command(after_help = WAIT_EXAMPLES)]
pub(super) struct WaitArgs {
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    timeout: HumanDuration,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub(super) struct StatusArgs {
    /// Print nothing; the exit code says it (for health checks of containers)
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The answer of `/ready`.
#[derive(Debug, Deserialize)]
struct Readiness {
    ready: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    name: String,
    ok: bool,
    state: String,
    detail: String,
}

impl Readiness {
    async fn ask(client: &AdminClient) -> Result<Self, CliError> {
        let (_, body) = client.get("/ready").await?;
        serde_json::from_value(body)
            .map_err(|error| client.problem(format!("/ready is not understood: {error}")))
    }

    /// What is missing, in one line.
    fn missing(&self) -> String {
        let missing = self.conditions.iter().filter(|condition| !condition.ok);
        missing.map(|c| format!("{}: {} ({})", c.name, c.detail, c.state)).collect::<Vec<_>>().join("; ")
    }
}

impl AdminArgs {
    /// The address from the flag or variable, else from the settings.
    fn client(&self) -> Result<AdminClient, CliError> {
        if let Some(address) = &self.admin {
            let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
            return Ok(AdminClient::new(address));
        }
        match self.settings.load()?.value.admin.listen.address() {
            Some(ListenAddress::Tcp(address)) if address.port() != 0 => {
                Ok(AdminClient::new(&address.to_string()))
            }
            Some(ListenAddress::Tcp(_)) => Err(CliError::Address(
                "`admin.listen` has port 0; give the port it got with --admin HOST:PORT".into(),
            )),
            _ => Err(CliError::Address(
                "`admin.listen` is off in these settings, so nothing can be asked".into(),
            )),
        }
    }
}

/// Waits until the proxy is ready, and says what is missing whenever that changes.
pub(super) async fn wait(args: &WaitArgs, console: &mut Console) -> Result<ExitCode, CliError> {
    let client = args.admin.client()?;
    let timeout = args.timeout.get();
    let deadline = clock::timer() + timeout;
    let mut said = String::new();
    loop {
        let missing = match Readiness::ask(&client).await {
            Ok(readiness) if readiness.ready => return Ok(ExitCode::SUCCESS),
            Ok(readiness) => readiness.missing(),
            Err(error) => error.to_string(),
        };
        if missing != said {
            console.note(&format!("waiting: {missing}"));
            said.clone_from(&missing);
        }
        if clock::timer() + POLL > deadline {
            return Err(CliError::NotReady { waited: timeout, missing });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Prints how the proxy is.
pub(super) async fn status(args: &StatusArgs, console: &mut Console) -> Result<ExitCode, CliError> {
    let client = args.admin.client()?;
    let readiness = Readiness::ask(&client).await?;
    let code = if readiness.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.quiet {
        return Ok(code);
    }
    let (_, config) = client.get("/config").await?;
    match args.output.output {
        Format::Json => {
            let (_, ready) = client.get("/ready").await?;
            let (_, certs) = client.get("/certs").await?;
            console.json_indented(&serde_json::json!({"ready": ready, "config": config, "certs": certs}))?;
        }
        Format::Pretty => print(&readiness, &config, console)?,
    }
    Ok(code)
}

fn print(readiness: &Readiness, config: &Value, console: &mut Console) -> Result<(), CliError> {
    let headline = if readiness.ready {
        console.paint(Colour::Green, "ready")
    } else {
        console.paint(Colour::Red, "not ready")
    };
    let version = config.get("version").and_then(Value::as_str).unwrap_or("unknown");
    console.line(format!("svidecar {version}: {headline}"))?;
    for condition in &readiness.conditions {
        let colour = if condition.ok { Colour::Green } else { Colour::Red };
        let mark = console.paint(colour, if condition.ok { "ok     " } else { "missing" });
        // What follows the first line, such as all problems of a file, is printed below.
        let detail = condition.detail.lines().next().unwrap_or_default();
        console.line(format!("  {mark}  {:<9} {:<14} {detail}", condition.name, condition.state))?;
    }
    let count =
        |direction: &str| config.pointer(&format!("/connections/{direction}")).and_then(Value::as_u64);
    if let (Some(inbound), Some(outbound)) = (count("inbound"), count("outbound")) {
        console.line(format!("  connections: {inbound} inbound, {outbound} outbound"))?;
    }
    if let Some(error) = config.get("last_error").and_then(Value::as_str) {
        console.line(
            console
                .paint(Colour::Red, "  the newest files on disk were refused, the ones before are in force:"),
        )?;
        error.lines().try_for_each(|line| console.line(format!("    {line}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
