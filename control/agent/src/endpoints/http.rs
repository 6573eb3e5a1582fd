//! Health and metrics over HTTP, off unless asked for.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use svidecar_process::{Metrics, clock, descriptors, http::Reply, log, memory, metrics::Page};
use tokio::sync::watch;

use crate::{manager::Manager, status::Status};

/// What the probes look at.
#[derive(Clone)]
pub struct Probes {
    /// How the agent is.
    pub status: watch::Receiver<Status>,
    /// None until the agent is attested.
    pub manager: watch::Receiver<Option<Arc<Manager>>>,
    /// The metrics so far.
    pub metrics: Metrics,
}

impl Probes {
    /// Answers one path.
    #[must_use]
    pub fn answer(&self, path: &str) -> Reply {
        match path {
            "/live" => Reply::text(StatusCode::OK, "alive\n"),
            "/ready" => self.ready(),
            "/metrics" => {
                self.gauges();
                let mut page = self.metrics.page();
                descriptors::write(&mut page);
                log::write(&mut page);
                memory::write(&mut page);
                Reply::of_type(Page::CONTENT_TYPE, page.into_text())
            }
            _ => Reply::not_found(),
        }
    }

    /// Ready is who can serve identities. A server that is away does not change that, nor does a disk that takes nothing.
    fn ready(&self) -> Reply {
        let status = self.status.borrow().clone();
        let code = if status.attested { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let own = self.manager.borrow().as_ref().map(|manager| manager.link.identity());
        let now = clock::wall();
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        let body = serde_json::json!({
            "ready": status.attested,
            "server_connected": status.connected,
            "sync_mode": status.sync_mode.as_str(),
            "problem": status.problem,
            "disk": status.disk,
            "memory": memory::problem(),
            "svid_left_s": seconds(own.as_ref().map(|svid| svid.not_after.duration_since(now).unwrap_or_default())),
            "renewed_s_ago": seconds(own.as_ref().and_then(|svid| now.duration_since(svid.obtained).ok())),
        });
        Reply::json(code, &body)
    }

    /// Counts that are read when they are asked for.
    fn gauges(&self) {
        if let Some(manager) = self.manager.borrow().clone() {
            let (entries, svids) = manager.counts();
            metrics::gauge!("svidecar_agent_entries").set(entries as f64);
            metrics::gauge!("svidecar_agent_x509_svids").set(svids as f64);
            let left = manager.link.identity().not_after.duration_since(clock::wall());
            metrics::gauge!("svidecar_agent_svid_remaining_seconds")
                .set(left.unwrap_or_default().as_secs_f64());
        }
    }
}
