//! The admin API: `why` and how the agent is. For the agent's own user.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use svidecar_api::{
    spire::api::types,
    svidecar::agent::v1::{
        EntrySummary, GetStatusRequest, GetStatusResponse, NearEntry, WhyRequest, WhyResponse,
        admin_server::Admin,
    },
};
use svidecar_process::source::Source;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::{
    attest::{Caller, WorkloadAttestor},
    entry::Entry,
    manager::Manager,
    selector::Selector,
    server::Address,
    status::Status as AgentStatus,
};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct AdminApi {
    /// None until the agent is attested.
    pub manager: watch::Receiver<Option<Arc<Manager>>>,
    /// How the agent is.
    pub status: watch::Receiver<AgentStatus>,
    /// Attests the process in question as it would attest a caller.
    pub attestor: WorkloadAttestor,
    /// The server that we were told to use.
    pub server: Address,
}

#[tonic::async_trait]
impl Admin for AdminApi {
    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyResponse>, Status> {
        let caller =
            Caller::pin(request.get_ref().pid).map_err(|error| Status::not_found(error.to_string()))?;
        let found = self
            .attestor
            .look_at(Arc::new(caller), Source::Unknown)
            .await
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let manager = self.manager.borrow().clone().ok_or_else(|| {
            let problem = self.status.borrow().problem.clone().unwrap_or_default();
            Status::unavailable(format!("the agent is not attested yet: {problem}"))
        })?;
        let explanation = manager.explain(&found.selectors);
        let summaries = |entries: &[Arc<Entry>]| entries.iter().map(|entry| summary(entry)).collect();
        Ok(Response::new(WhyResponse {
            selectors: found.selectors.iter().map(wire).collect(),
            notes: found.notes,
            matched: summaries(&explanation.matched),
            dropped: summaries(&explanation.dropped),
            closest: explanation
                .closest
                .iter()
                .map(|near| NearEntry {
                    entry: Some(summary(&near.entry)),
                    missing: near.missing.iter().map(wire).collect(),
                })
                .collect(),
            total_entries: u32::try_from(explanation.total).unwrap_or(u32::MAX),
            agent_id: manager.link.identity().spiffe_id.to_string(),
        }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let status = self.status.borrow().clone();
        let manager = self.manager.borrow().clone();
        let identity = manager.as_ref().map(|manager| manager.link.identity());
        let (entries, svids) = manager.as_ref().map_or((0, 0), |manager| manager.counts());
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Response::new(GetStatusResponse {
            agent_id: identity.as_ref().map(|svid| svid.spiffe_id.to_string()).unwrap_or_default(),
            svid_expires_at: identity.as_ref().map_or(0, |svid| seconds(svid.not_after)),
            server_connected: status.connected,
            server_address: self.server.to_string(),
            last_sync: status.last_sync.map_or(0, seconds),
            sync_mode: status.sync_mode.as_str().to_owned(),
            entries: count(entries),
            svids: count(svids),
            problem: status.problem.or(status.disk).unwrap_or_default(),
            insecure_bootstrap: manager.is_some_and(|manager| manager.joined().insecure_bootstrap),
        }))
    }
}

fn seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn wire(selector: &Selector) -> types::Selector {
    types::Selector { r#type: selector.kind.to_string(), value: selector.value.to_string() }
}

fn summary(entry: &Entry) -> EntrySummary {
    EntrySummary {
        entry_id: entry.id.to_string(),
        spiffe_id: entry.spiffe_id.to_string(),
        selectors: entry.selectors.iter().map(wire).collect(),
        hint: entry.hint.clone(),
    }
}
