//! `policy explain`: what a policy decides about one request, and why.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use svidecar_code::Code;
use svidecar_config::proxy::InboundSettings;
use svidecar_id::SpiffeId;
use svidecar_policy::{Explanation, Mode, Policy, Protocol, Request, Verdict, normalize::normalize_path};
use svidecar_process::console::{Colour, Console, Format, OutputArgs};

use super::source::{inbound, protocol, read};
use crate::control::cli::{error::CliError, settings::SettingsArgs};

const EXAMPLES: &str = "\
Examples:
  svidecar policy explain --policy orders.yaml --peer spiffe://demo.org/shop GET /orders/7
  svidecar policy explain --config proxy.yaml --listener web --peer none GET /
  svidecar policy explain --policy orders.yaml --peer spiffe://demo.org/shop --header 'x-env: test' GET /
  svidecar policy explain --policy db.yaml --tcp --peer spiffe://demo.org/app

Ends with 0 when the request is allowed and with 1 when it is denied. Failing tests do not keep a policy from
being explained.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// The peer's SPIFFE ID, or `none` for a peer without one
    #[arg(long, value_name = "ID")]
    peer: String,
    /// The policy [default: that of the inbound listener in the settings]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Which inbound listener's policy, when the settings have several
    #[arg(long, value_name = "NAME", conflicts_with = "policy")]
    listener: Option<String>,
    /// `--policy` is the policy of a tcp listener
    #[arg(long, requires = "policy")]
    tcp: bool,
    /// The host that the request names
    #[arg(long)]
    host: Option<String>,
    /// A header of the request; can be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The request's method; none for a tcp listener
    method: Option<String>,
    /// The request's path
    path: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn explain(args: &ExplainArgs, console: &mut Console) -> Result<ExitCode, CliError> {
    let policy = args.read_policy()?;
    let peer = args.peer()?;
    let headers = args.headers()?;
    let mut request = Request { peer: peer.as_ref(), ..Request::default() };
    let normal;
    if policy.protocol() == Protocol::Http {
        let (Some(method), Some(path)) = (&args.method, &args.path) else {
            return Err(CliError::Request("add a method and a path, such as: GET /orders".into()));
        };
        let path = path.split_once('?').map_or(path.as_str(), |(path, _)| path);
        normal = match normalize_path(path) {
            Ok(normal) => normal,
            Err(rejection) => return refused(args, &rejection.to_string(), console),
        };
        request.method = Some(method);
        request.path = Some(&normal);
        request.host = args.host.as_deref();
        request.headers = Some(&headers);
    } else if args.method.is_some() || args.host.is_some() || !args.header.is_empty() {
        return Err(CliError::Request(
            "a tcp listener decides by the peer alone; leave the request out".into(),
        ));
    }
    let explanation = policy.explain(&request);
    match args.output.output {
        Format::Json => console.json_indented(&explanation)?,
        Format::Pretty => print(&explanation, request.path, console)?,
    }
    Ok(if explanation.verdict == Verdict::Allow { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl ExplainArgs {
    fn read_policy(&self) -> Result<Policy, CliError> {
        if let Some(file) = &self.policy {
            return read(file, protocol(self.tcp));
        }
        let listeners = inbound(&self.settings)?;
        let names = || listeners.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>().join(", ");
        let named =
            |listener: &&InboundSettings| self.listener.as_ref().is_none_or(|name| *name == listener.name);
        let mut matching = listeners.iter().filter(named);
        match (matching.next(), matching.next()) {
            (Some(listener), None) => read(&listener.policy, listener.protocol),
            (Some(_), Some(_)) => Err(CliError::WhichPolicy(format!(
                "the settings have several inbound listeners; choose with --listener: {}",
                names()
            ))),
            (None, _) => Err(CliError::WhichPolicy(format!(
                "there is no such inbound listener; there are: {}",
                names()
            ))),
        }
    }

    fn peer(&self) -> Result<Option<SpiffeId>, CliError> {
        if self.peer == "none" {
            return Ok(None);
        }
        SpiffeId::parse(&self.peer)
            .map(Some)
            .map_err(|error| CliError::Request(format!("--peer `{}` is not a SPIFFE ID: {error}", self.peer)))
    }

    fn headers(&self) -> Result<HeaderMap, CliError> {
        let mut headers = HeaderMap::new();
        for text in &self.header {
            let (name, value) = text.split_once(':').unwrap_or_default();
            let name = HeaderName::from_bytes(name.trim().as_bytes());
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.trim())) else {
                let message = format!("--header `{text}` is not a header; write `name: value`");
                return Err(CliError::Request(message));
            };
            headers.append(name, value);
        }
        Ok(headers)
    }
}

/// Says that the request does not come as far as the policy.
fn refused(args: &ExplainArgs, why: &str, console: &mut Console) -> Result<ExitCode, CliError> {
    match args.output.output {
        Format::Json => {
            console.json_indented(
                &json!({"verdict": "deny", "code": Code::AmbiguousPath, "because": why, "rules": []}),
            )?;
        }
        Format::Pretty => {
            console.line(format!(
                "{} with 400 before any rule ({})",
                console.paint(Colour::Red, "REFUSED"),
                Code::AmbiguousPath
            ))?;
            console.line(why)?;
        }
    }
    Ok(ExitCode::FAILURE)
}

fn print(explanation: &Explanation, path: Option<&str>, console: &mut Console) -> Result<(), CliError> {
    let verdict = match explanation.verdict {
        Verdict::Allow => console.paint(Colour::Green, "ALLOW"),
        Verdict::Deny => console.paint(Colour::Red, "DENY"),
    };
    console.line(format!("{verdict} by {}", explanation.rule))?;
    console.line(&explanation.because)?;
    if let Some(path) = path {
        console.line(format!("the path that is matched and forwarded: {path}"))?;
    }
    if !explanation.rules.is_empty() {
        console.line("")?;
    }
    let width = explanation.rules.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    for rule in &explanation.rules {
        let audit = if rule.mode == Mode::Audit { " (audit)" } else { "" };
        let matched =
            if rule.matched { console.paint(Colour::Green, "match   ") } else { "no match".to_owned() };
        let action = format!("{}{audit}", rule.action);
        console.line(format!("  {matched}  {:<width$}  {action:<13}  {}", rule.name, rule.why))?;
    }
    Ok(())
}
