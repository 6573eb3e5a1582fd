//! `entry apply`: files say which entries there are, and the server is made to agree.
//!
//! Works over SPIRE's own API, with SPIRE's server too. What belongs to files is told by the entry IDs:
//! `apply.OWNER.HASH`, where the hash is of what makes an entry what it is (SPIFFE ID, parent ID, selectors). So the
//! same file applied twice changes nothing, `--prune` deletes nothing that others made, and two owners can
//! share a server.

mod document;
mod plan;
mod text;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use svidecar_api::spire::api::{server::entry::v1::entry_client::EntryClient, types};
use tonic::transport::Channel;

pub(super) use self::{document::read, plan::Plan};
use super::{
    CliError, Console, ServerSocket,
    console::{Format, OutputArgs},
    entry,
};

#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct ApplyArgs {
    /// A YAML or JSON file, a directory of them, or `-` for stdin (repeatable)
    #[arg(long, short, value_name = "PATH", required = true)]
    file: Vec<PathBuf>,
    /// Deletes the entries of this owner that are in no file any more
    #[arg(long)]
    prune: bool,
    /// Only says what would be done
    #[arg(long)]
    dry_run: bool,
    /// Whose entries the files describe, when several teams share the server
    #[arg(long, default_value = "default", value_parser = owner)]
    owner: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

const EXAMPLE: &str = "\
A file:
  entries:
    - spiffe_id: spiffe://demo.org/shop
      parent_id: spiffe://demo.org/node
      selectors: [\"unix:uid:1001\", \"unix:path:/usr/bin/shop\"]
      x509_svid_ttl: 1h
      dns_names: [shop.internal]";

/// The name of an owner is a part of entry IDs.
fn owner(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("an owner has 1 to 64 letters, digits, `-` and `_`".to_owned())
    }
}

/// One thing that the server refused.
pub(super) struct Refused {
    doing: &'static str,
    what: String,
    reason: String,
}

pub(super) async fn run(args: ApplyArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    let wanted = read(&args.file, &args.owner)?;
    let mut client = args.server.entries().await?;
    let plan = Plan::new(wanted, entry::list(&mut client, None).await?, &args.owner)?;
    if args.output.output == Format::Pretty {
        text::plan(&plan, args.prune, console)?;
    }
    let refused = if args.dry_run { Vec::new() } else { carry_out(&plan, args.prune, &mut client).await? };
    if args.output.output == Format::Json {
        console.print_json(&summary(&plan, &args, &refused))?;
    }
    outcome(&refused, console)
}

/// Makes the server agree with the plan; what it refuses comes back.
pub(super) async fn carry_out(
    plan: &Plan,
    prune: bool,
    client: &mut EntryClient<Channel>,
) -> Result<Vec<Refused>, CliError> {
    let mut refused = Vec::new();
    // New ones first: a workload whose entry is replaced is never without one.
    for result in entry::create(client, plan.create.clone()).await?.results {
        note(&mut refused, "create", result.status.as_ref(), || plan::name(result.entry.as_ref()));
    }
    let update = plan.update.iter().map(|change| change.to.clone()).collect();
    for result in entry::update(client, update).await?.results {
        note(&mut refused, "update", result.status.as_ref(), || plan::name(result.entry.as_ref()));
    }
    if prune {
        let stale = plan.stale.iter().map(|entry| entry.id.clone()).collect();
        for result in entry::delete(client, stale).await?.results {
            note(&mut refused, "delete", result.status.as_ref(), || result.id.clone());
        }
    }
    Ok(refused)
}

/// The end of a run: a failure when the server refused something.
pub(super) fn outcome(refused: &[Refused], console: &mut Console<'_>) -> Result<(), CliError> {
    text::refused(refused, console)?;
    if refused.is_empty() {
        return Ok(());
    }
    Err(CliError::Message(format!(
        "the server refused {} of the changes; the others are made",
        refused.len()
    )))
}

fn note(
    refused: &mut Vec<Refused>,
    doing: &'static str,
    status: Option<&types::Status>,
    what: impl FnOnce() -> String,
) {
    if let Some(status) = entry::failed(status) {
        refused.push(Refused { doing, what: what(), reason: entry::reason(status) });
    }
}

fn summary(plan: &Plan, args: &ApplyArgs, refused: &[Refused]) -> serde_json::Value {
    let ids = |entries: &[types::Entry]| entries.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>();
    json!({
        "dry_run": args.dry_run,
        "create": ids(&plan.create),
        "update": plan.update.iter().map(|change| change.to.id.clone()).collect::<Vec<_>>(),
        "delete": if args.prune { ids(&plan.stale) } else { Vec::new() },
        "stale": ids(&plan.stale),
        "unchanged": plan.unchanged,
        "errors": refused.iter().map(|error| json!({
            "doing": error.doing, "entry": error.what, "reason": error.reason,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
