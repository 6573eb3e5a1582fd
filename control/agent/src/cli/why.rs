//! `why`: what a process gets here, and why not more.

use std::io::Write;

use clap::Args;
use serde_json::json;
use svidecar_api::{
    spire::api::types::Selector,
    svidecar::agent::v1::{EntrySummary, WhyRequest, WhyResponse, admin_client::AdminClient},
    transport::uds,
};
use svidecar_process::console::{Console, Format, OutputArgs};

use super::{error::CliError, settings::AdminSocket};

/// `why`
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The process
    #[arg(long)]
    pid: i32,
    #[command(flatten)]
    agent: AdminSocket,
    #[command(flatten)]
    output: OutputArgs,
}

/// Asks the agent and prints what it says.
///
/// # Errors
/// When there is no such agent or process.
pub async fn run(args: WhyArgs, console: &mut Console) -> Result<(), CliError> {
    let channel = uds::connect_to_ours(args.agent.path()?).await.map_err(CliError::Admin)?;
    let answer = AdminClient::new(channel).why(WhyRequest { pid: args.pid }).await;
    let answer = answer.map_err(|status| CliError::message(status.message()))?.into_inner();
    match args.output.output {
        Format::Pretty => print(args.pid, &answer, console.out()),
        Format::Json => Ok(console.json(&to_json(&answer))?),
    }
}

fn print(pid: i32, answer: &WhyResponse, out: &mut dyn Write) -> Result<(), CliError> {
    writeln!(out, "Process {pid} has these selectors:")?;
    for selector in &answer.selectors {
        writeln!(out, "  {}", text(selector))?;
    }
    for note in &answer.notes {
        writeln!(out, "  ({note})")?;
    }
    let (matched, total) = (answer.matched.len(), answer.total_entries);
    writeln!(out, "\n{matched} of {total} entries match:")?;
    for entry in &answer.matched {
        print_entry(entry, out)?;
    }
    for entry in &answer.dropped {
        print_entry(entry, out)?;
        writeln!(out, "    left out: an older entry has the hint `{}` already", entry.hint)?;
    }
    if !answer.closest.is_empty() {
        writeln!(out, "\nThe closest others:")?;
        for near in &answer.closest {
            print_entry(&near.entry.clone().unwrap_or_default(), out)?;
            for missing in &near.missing {
                writeln!(out, "    missing: {}", text(missing))?;
            }
        }
    }
    if matched == 0 {
        writeln!(
            out,
            "\nAn entry for this process needs the parent ID {} (or one that leads to it)\nand only selectors from \
             the list above, for example:\n  svidecar-server entry create --parent-id {} \\\n      --spiffe-id \
             SPIFFE-ID --selector {}",
            answer.agent_id,
            answer.agent_id,
            answer.selectors.iter().find(|s| s.value.starts_with("uid:")).map_or_else(String::new, text)
        )?;
    }
    Ok(())
}

fn print_entry(entry: &EntrySummary, out: &mut dyn Write) -> Result<(), CliError> {
    let selectors: Vec<_> = entry.selectors.iter().map(text).collect();
    writeln!(out, "  {} (entry {})", entry.spiffe_id, entry.entry_id)?;
    Ok(writeln!(out, "    asks for: {}", selectors.join(" "))?)
}

fn text(selector: &Selector) -> String {
    format!("{}:{}", selector.r#type, selector.value)
}

fn to_json(answer: &WhyResponse) -> serde_json::Value {
    let texts = |selectors: &[Selector]| selectors.iter().map(text).collect::<Vec<_>>();
    let entry = |entry: &EntrySummary| {
        json!({
            "entry_id": entry.entry_id,
            "spiffe_id": entry.spiffe_id,
            "selectors": texts(&entry.selectors),
            "hint": entry.hint,
        })
    };
    let closest: Vec<_> = answer
        .closest
        .iter()
        .map(|near| json!({ "entry": near.entry.as_ref().map(entry), "missing": texts(&near.missing) }))
        .collect();
    json!({
        "agent_id": answer.agent_id,
        "selectors": texts(&answer.selectors),
        "notes": answer.notes,
        "total_entries": answer.total_entries,
        "matched": answer.matched.iter().map(entry).collect::<Vec<_>>(),
        "dropped": answer.dropped.iter().map(entry).collect::<Vec<_>>(),
        "closest": closest,
    })
}

#[cfg(test)]
mod tests {
    use svidecar_api::svidecar::agent::v1::NearEntry;

    use super::*;

    #[test]
    fn a_refusal_says_what_is_missing_and_what_to_do() {
        let selector = |value: &str| Selector { r#type: "unix".into(), value: value.into() };
        let entry = EntrySummary {
            entry_id: "e1".into(),
            spiffe_id: "spiffe://demo.org/a".into(),
            selectors: vec![selector("uid:2")],
            hint: String::new(),
        };
        let answer = WhyResponse {
            selectors: vec![selector("gid:1"), selector("uid:1")],
            total_entries: 1,
            closest: vec![NearEntry { entry: Some(entry), missing: vec![selector("uid:2")] }],
            agent_id: "spiffe://demo.org/spire/agent/x".into(),
            ..Default::default()
        };
        let mut out = Vec::new();
        print(7, &answer, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        for part in [
            "Process 7 has these selectors:\n  unix:gid:1\n  unix:uid:1\n",
            "0 of 1 entries match:",
            "spiffe://demo.org/a (entry e1)\n    asks for: unix:uid:2\n    missing: unix:uid:2\n",
            "--selector unix:uid:1",
        ] {
            assert!(out.contains(part), "{out}");
        }
    }
}
