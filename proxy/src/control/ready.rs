//! Whether the proxy can do its work, condition by condition, each with its reason.

use std::sync::Arc;

use rustls_pki_types::UnixTime;
use serde::Serialize;
use svidecar_process::{clock, memory};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    plan::{snapshot::Snapshot, status::ReloadStatus},
    runtime::{
        drain::{Drain, Phase},
        shared::Shared,
    },
};

/// One condition of being ready.
#[derive(Clone, Debug, Serialize)]
pub struct Condition {
    /// `identity`, `bundle`, `policy`, `running`, `workers`.
    pub name: &'static str,
    /// Whether it is met.
    pub ok: bool,
    /// The stable word for the state.
    pub state: &'static str,
    /// The reason, for a person.
    pub detail: String,
}

/// All conditions together.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Whether every condition is met.
    pub ready: bool,
    /// Each of them.
    pub conditions: Vec<Condition>,
    /// What is to be said about memory; it makes nothing unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<&'static str>,
}

impl Readiness {
    /// Looks at the proxy as it is now.
    #[must_use]
    pub fn of(shared: &Shared, now: UnixTime) -> Self {
        Self::judge(&shared.current.load(), &shared.drain, &shared.reload.borrow(), now)
    }

    fn judge(snapshot: &Snapshot, drain: &Drain, reload: &ReloadStatus, now: UnixTime) -> Self {
        let conditions =
            vec![identity(snapshot, now), bundle(snapshot), policy(snapshot, reload), running(drain)];
        Self { ready: conditions.iter().all(|condition| condition.ok), conditions, memory: memory::problem() }
    }

    /// Adds what only the workers themselves can vouch for: `silent` are those that did not answer.
    #[must_use]
    pub fn with_workers(mut self, count: usize, silent: &[usize]) -> Self {
        let workers = workers(count, silent);
        self.ready &= workers.ok;
        self.conditions.push(workers);
        self
    }

    /// The conditions that are not met, in one line.
    #[must_use]
    pub fn missing(&self) -> String {
        let missing = self.conditions.iter().filter(|condition| !condition.ok);
        missing
            .map(|condition| format!("{} ({}: {})", condition.name, condition.state, condition.detail))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Says aloud when the proxy becomes ready and when it stops to be. Runs until `stop`, and only when something
/// changes.
pub async fn announce(shared: Arc<Shared>, stop: CancellationToken) {
    let mut changes = shared.current.subscribe();
    let mut was_ready = false;
    loop {
        let readiness = Readiness::of(&shared, clock::unix());
        match (was_ready, readiness.ready) {
            (false, true) => info!("The proxy is ready"),
            (true, false) => warn!(missing = readiness.missing(), "The proxy is not ready any more"),
            _ => {}
        }
        was_ready = readiness.ready;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

fn identity(snapshot: &Snapshot, now: UnixTime) -> Condition {
    let identity = &snapshot.identity;
    let (ok, state, detail) = match &identity.svid {
        Some(svid) if svid.is_valid(now) => {
            let left = svid.seconds_left(now);
            (true, identity.status.state.code().name(), format!("{} for another {left} s", svid.id))
        }
        Some(svid) => {
            (false, "expired", format!("the SVID of {} has expired; {}", svid.id, identity.status.detail))
        }
        None => (false, identity.status.state.code().name(), identity.status.detail.clone()),
    };
    Condition { name: "identity", ok, state, detail }
}

fn bundle(snapshot: &Snapshot) -> Condition {
    let bundles = &snapshot.identity.bundles;
    let own = snapshot.identity.svid.as_ref().map(|svid| svid.id.trust_domain());
    let (ok, state, detail) = match own {
        Some(own) if bundles.get(&own).is_some_and(|bundle| !bundle.x509_authorities.is_empty()) => {
            let names: Vec<_> = bundles.iter().map(|bundle| bundle.trust_domain.to_string()).collect();
            (true, "current", format!("bundles of {}", names.join(", ")))
        }
        Some(own) => (false, "missing", format!("there is no bundle of {own}, so no peer can be verified")),
        None => (false, "missing", "bundles come with the identity".to_owned()),
    };
    Condition { name: "bundle", ok, state, detail }
}

fn policy(snapshot: &Snapshot, reload: &ReloadStatus) -> Condition {
    let (state, detail) = match &reload.error {
        // What is in force is valid, so traffic is served; but somebody should know.
        Some(error) => ("stale", format!("the newest files are not valid and not in force: {error}")),
        None => (
            "current",
            format!(
                "{} policies, {} outbound listeners",
                snapshot.plan.inbound.len(),
                snapshot.plan.outbound.len()
            ),
        ),
    };
    Condition { name: "policy", ok: true, state, detail }
}

fn running(drain: &Drain) -> Condition {
    let ok = drain.phase() == Phase::Running;
    let (state, detail) =
        if ok { ("running", "serving") } else { ("draining", "the proxy was told to stop") };
    Condition { name: "running", ok, state, detail: detail.to_owned() }
}

fn workers(count: usize, silent: &[usize]) -> Condition {
    let ok = silent.is_empty();
    let (state, detail) = if ok {
        ("moving", format!("{count} of {count} answer"))
    } else {
        let names = silent.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        ("stuck", format!("no answer from {} of {count} (number {names})", silent.len()))
    };
    Condition { name: "workers", ok, state, detail }
}
