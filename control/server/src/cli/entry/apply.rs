//! `entry apply`: files say which entries there are, and the server is made to agree.
//!
//! Works over SPIRE's own API, with SPIRE's server too. What belongs to files is told by the entry IDs:
//! `apply.OWNER.HASH`, where the hash is of what makes an entry what it is (SPIFFE ID, parent ID, selectors). So the
//! same file applied twice changes nothing, `--prune` deletes nothing that others made, and two owners can
//! share a server.

mod carry_out;
mod document;
mod plan;
mod text;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use svidecar_api::spire::api::types;
use svidecar_process::console::{Console, Format, OutputArgs};

use self::carry_out::Refused;
pub(crate) use self::{carry_out::carry_out, document::read, plan::Plan};
use super::calls;
use crate::cli::{CliError, ServerSocket};

#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ApplyArgs {
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

pub(super) async fn run(args: ApplyArgs, console: &mut Console) -> Result<(), CliError> {
    let wanted = read(&args.file, &args.owner)?;
    let mut client = args.server.entries().await?;
    let plan = Plan::new(wanted, calls::list(&mut client, None).await?, &args.owner)?;
    if args.output.output == Format::Pretty {
        text::plan(&plan, args.prune, console)?;
    }
    let refused = if args.dry_run { Vec::new() } else { carry_out(&plan, args.prune, &mut client).await? };
    if args.output.output == Format::Json {
        console.json(&summary(&plan, &args, &refused))?;
    }
    outcome(&refused, console)
}

/// The end of a run: a failure when the server refused something.
pub(crate) fn outcome(refused: &[Refused], console: &mut Console) -> Result<(), CliError> {
    text::refused(refused, console)?;
    if refused.is_empty() {
        return Ok(());
    }
    Err(CliError::Message(format!(
        "the server refused {} of the changes; the others are made",
        refused.len()
    )))
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
