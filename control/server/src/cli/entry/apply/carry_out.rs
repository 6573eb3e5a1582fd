//! Makes the server's entries what a plan says, and collects what it refuses.

use svidecar_api::spire::api::{server::entry::v1::entry_client::EntryClient, types};
use tonic::transport::Channel;

use super::plan::{self, Plan};
use crate::cli::{
    CliError,
    entry::{calls, text},
};

/// One thing that the server refused.
pub(crate) struct Refused {
    pub(super) doing: &'static str,
    pub(super) what: String,
    pub(super) reason: String,
}

/// Makes the server agree with the plan; what it refuses comes back.
pub(crate) async fn carry_out(
    plan: &Plan,
    prune: bool,
    client: &mut EntryClient<Channel>,
) -> Result<Vec<Refused>, CliError> {
    let mut refused = Vec::new();
    // New ones first: a workload whose entry is replaced is never without one.
    for result in calls::create(client, plan.create.clone()).await?.results {
        note(&mut refused, "create", result.status.as_ref(), || plan::name(result.entry.as_ref()));
    }
    let update = plan.update.iter().map(|change| change.to.clone()).collect();
    for result in calls::update(client, update).await?.results {
        note(&mut refused, "update", result.status.as_ref(), || plan::name(result.entry.as_ref()));
    }
    if prune {
        let stale = plan.stale.iter().map(|entry| entry.id.clone()).collect();
        for result in calls::delete(client, stale).await?.results {
            note(&mut refused, "delete", result.status.as_ref(), || result.id.clone());
        }
    }
    Ok(refused)
}

fn note(
    refused: &mut Vec<Refused>,
    doing: &'static str,
    status: Option<&types::Status>,
    what: impl FnOnce() -> String,
) {
    if let Some(status) = calls::failed(status) {
        refused.push(Refused { doing, what: what(), reason: text::reason(status) });
    }
}
