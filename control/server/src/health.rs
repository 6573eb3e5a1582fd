//! Whether the server can do its work, for probes: `grpc.health.v1` on the administrators' socket, and by
//! setting `/live`, `/ready` and `/metrics` over HTTP.
//!
//! It tells what works now and not what once did: the keys sign something, the last commit reached the disk. What keeps
//! nobody from being served is told and makes nothing unhealthy: who would restart the server for it would only lose it.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use svidecar_process::{Metrics, clock::Doubt, descriptors, http::Reply, log, memory, metrics::Page};
use tokio::time::{self, Duration};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{state::State, telemetry};

/// How often the answer of `grpc.health.v1` is brought up to date.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// One thing that has to work.
struct Check {
    name: &'static str,
    /// What is wrong.
    failure: Option<String>,
    /// Whether the server cannot serve while it is.
    is_vital: bool,
}

impl Check {
    fn is_healthy(&self) -> bool {
        self.failure.is_none() || !self.is_vital
    }
}

async fn checks(state: &State) -> [Check; 6] {
    let store = state.store.count_bundles().await.err().map(|error| error.to_string());
    let commit = state.guard.last_commit().err();
    let ca = state.ca.prove(state.clock.now()).err().map(|error| error.to_string());
    let clock = state.guard.doubt().filter(Doubt::concerns_somebody).map(|doubt| doubt.to_string());
    let committed = *state.store.changes().borrow();
    let position = state.entries.position();
    let lag = (position < committed)
        .then(|| format!("entries are served as of event {position}, the database is at {committed}"));
    [
        Check { name: "store", failure: store, is_vital: true },
        // Agents get what is known and what is signed from memory all the same.
        Check { name: "commit", failure: commit, is_vital: false },
        Check { name: "ca", failure: ca, is_vital: true },
        // Being a moment behind is normal; only together with a broken database it lasts.
        Check {
            name: "entries",
            failure: lag.filter(|_| committed.saturating_sub(position) > 1000),
            is_vital: true,
        },
        Check { name: "clock", failure: clock, is_vital: false },
        Check { name: "memory", failure: memory::problem().map(str::to_owned), is_vital: false },
    ]
}

/// Keeps the status that `grpc.health.v1` reports, until `shutdown`.
pub async fn report(state: Arc<State>, reporter: HealthReporter, shutdown: CancellationToken) {
    let mut ticks = time::interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let healthy = checks(&state).await.iter().all(Check::is_healthy);
        let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
}

/// Answers one HTTP probe.
pub async fn answer(state: Arc<State>, metrics: Option<Metrics>, path: String) -> Reply {
    match path.as_str() {
        "/live" => Reply::text(StatusCode::OK, "live\n"),
        "/ready" => ready(&state).await,
        "/metrics" => match metrics {
            Some(metrics) => {
                telemetry::measure(&state);
                let mut page = metrics.page();
                descriptors::write(&mut page);
                log::write(&mut page);
                memory::write(&mut page);
                Reply::of_type(Page::CONTENT_TYPE, page.into_text())
            }
            None => Reply::not_found(),
        },
        _ => Reply::not_found(),
    }
}

async fn ready(state: &State) -> Reply {
    let checks = checks(state).await;
    let healthy = checks.iter().all(Check::is_healthy);
    let details: serde_json::Map<_, _> = checks
        .into_iter()
        .map(|check| (check.name.to_owned(), json!({"ok": check.failure.is_none(), "error": check.failure})))
        .collect();
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::json(status, &json!({"ready": healthy, "checks": details}))
}
