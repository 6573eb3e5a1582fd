//! Puts the identity that the Workload API gives into the snapshot, and tells of it: in the log, and in the count of
//! SVIDs.
//!
//! The one place that writes identities. What an identity is, and when it changes, is `svidecar-workload`'s.

use std::{sync::Arc, time::Duration};

use metrics::Counter;
use svidecar_api::transport::Endpoint;
use svidecar_authority::time;
use svidecar_process::clock;
use svidecar_workload::{
    Choice, Event, Identity, IdentityState, IdentityWatch, MaterialError, Overdue, Svid,
};
use tracing::{error, info, warn};

use crate::plan::snapshot::Current;

/// Keeps the identity of `current` up to date; runs until it is dropped. `updates` counts the SVIDs that were taken into
/// use.
pub async fn keep_current(endpoint: Endpoint, choice: Choice, current: Arc<Current>, updates: Counter) {
    let known = Arc::clone(&current.load().identity);
    let watch = IdentityWatch { endpoint, choice, known };
    let take = move |identity: &Arc<Identity>, event: Event| {
        tell(identity, &event);
        if matches!(event, Event::Obtained | Event::Replaced { .. } | Event::Rotated) {
            updates.increment(1);
        }
        if event.is_change() {
            current.replace_identity(Arc::clone(identity));
        }
    };
    watch.run(take).await;
}

fn tell(identity: &Identity, event: &Event) {
    let (status, svid) = (&identity.status, identity.svid.as_deref());
    match (event, svid) {
        (Event::Obtained, Some(svid)) => {
            info!(valid_for = left(svid), "Obtained SVID: {}", svid.id);
        }
        (Event::Replaced { before }, Some(svid)) => {
            warn!(valid_for = left(svid), %before, "Obtained SVID: {} in place of another identity", svid.id);
        }
        (Event::Rotated, Some(svid)) => {
            info!(valid_for = left(svid), "Rotated SVID: {}; live connections go on", svid.id);
        }
        (Event::BundlesChanged, _) => {
            info!(trust_domains = identity.bundles.len(), "Obtained trust bundles");
        }
        (Event::Absent, _) => {
            warn!(error = status.detail, code = status.state.code().name(), "No identity yet")
        }
        (Event::Away, _) => warn!(
            error = status.detail,
            code = status.state.code().name(),
            "The Workload API gives nothing new; the SVID that we have goes on to serve until it expires"
        ),
        (Event::TakenBack, _) => error!(
            error = status.detail,
            code = status.state.code().name(),
            "The agent has taken our identity back; there will be no new connections"
        ),
        (Event::SvidsDiscarded(error @ MaterialError::NotVerified(_)), _) => {
            let (error, code) = (error.to_string(), IdentityState::NotVerified.code().name());
            error!(error, code, "The agent's SVID is not used");
        }
        (Event::SvidLeftOut(error), _) => {
            let (error, code) = (error.to_string(), IdentityState::NotVerified.code().name());
            warn!(error, code, "One of the agent's SVIDs is not used");
        }
        (Event::SvidsDiscarded(error), _) => {
            let error = error.to_string();
            warn!(error, code = IdentityState::Invalid.code().name(), "The agent's answer is discarded");
        }
        (Event::BundlesDiscarded(error), _) => warn!(%error, "The agent's bundles are discarded"),
        (Event::Overdue(overdue), Some(svid)) => speak_up(svid, *overdue, identity),
        _ => {}
    }
}

fn left(svid: &Svid) -> String {
    time::human(Duration::from_secs(svid.seconds_left(clock::unix())))
}

fn speak_up(svid: &Svid, overdue: Overdue, identity: &Identity) {
    let (state, detail) = (identity.status.state.code().name(), &identity.status.detail);
    match overdue {
        Overdue::Late => {
            warn!(spiffe_id = %svid.id, left = left(svid), identity_state = state, error = detail, "The SVID has not been renewed in time");
        }
        Overdue::Soon => {
            error!(spiffe_id = %svid.id, left = left(svid), identity_state = state, error = detail, "The SVID expires soon and has not been renewed");
        }
        Overdue::Expired => {
            error!(spiffe_id = %svid.id, identity_state = state, error = detail, "The SVID has expired; there will be no new connections until the agent gives a new one");
        }
    }
}
