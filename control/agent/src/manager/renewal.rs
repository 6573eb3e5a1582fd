//! Keeps the agent's own SVID alive: renewed at half life, with a new key each time.
//!
//! Owns the order that survives a crash: the new SVID is on disk before it is used, because the server drops
//! the old one at the new one's first use.

use std::{sync::Arc, time::Duration};

use svidecar_authority::{
    csr,
    key::{KeyType, PrivateKey},
};
use svidecar_process::Backoff;
use tokio_util::sync::CancellationToken;

use super::{Fatal, Manager, sleep_until};
use crate::{
    error::AgentError,
    server::{self, Trust},
    svid::HeldSvid,
};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Renews until shutdown, or until the server does not accept this agent any more.
pub async fn run(manager: Arc<Manager>, fatal: Fatal, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    let mut sessions = manager.link.sessions();
    let mut jumps = manager.jumps.subscribe();
    let mut at = manager.link.identity().due_at(manager.clock.wall());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Also when another server took over, with an SVID of its own.
            Ok(()) = sessions.changed() => {
                at = manager.link.identity().due_at(manager.clock.wall());
                continue;
            }
            () = manager.renew.notified() => {}
            // Whatever was waited for was a time of the clock of before.
            Ok(()) = jumps.changed() => {
                at = manager.link.identity().due_at(manager.clock.wall());
                continue;
            }
            () = sleep_until(&manager.clock, at) => {}
        }
        manager.look();
        match renew(&manager).await {
            Ok(svid) => {
                backoff.reset();
                // One that ends by the server's clock is due again by ours; that is no reason to ask without a pause.
                at = svid.renew_at().max(manager.clock.wall() + RETRY_FIRST);
                tracing::info!(spiffe_id = %svid.spiffe_id, "the agent's own SVID was renewed");
                metrics::counter!("svidecar_agent_renewals_total").increment(1);
            }
            Err(error @ AgentError::Evicted { .. }) => {
                // Whoever takes the error ends the agent; a full channel has one already.
                let _ = fatal.try_send(error);
                return;
            }
            Err(error) => {
                let now = manager.clock.wall();
                let identity = manager.link.identity();
                let left = identity.not_after.duration_since(now).unwrap_or_default();
                // One that can come back does so where the server is followed.
                let ends = left.is_zero() && identity.membership.is_none();
                if ends && server_is_there(&manager).await {
                    let _ = fatal.try_send(AgentError::Expired);
                    return;
                }
                let wait = backoff.next_wait(rand::random());
                at = now + wait;
                tracing::warn!(
                    %error, code = error.code().name(), svid_left_s = left.as_secs(), retry_in_s = wait.as_secs_f32(),
                    "the agent's own SVID could not be renewed"
                );
            }
        }
    }
}

/// Whether the server answers those who show no identity. An SVID that ended ends the agent only then: while the
/// server is away, workloads keep what they have.
async fn server_is_there(manager: &Manager) -> bool {
    let bundles = Arc::clone(manager.bundles().set());
    server::dial(manager.link.address(), &Trust::Bundle(bundles)).await.is_ok()
}

async fn renew(manager: &Arc<Manager>) -> Result<Arc<HeldSvid>, AgentError> {
    let failed = |error: svidecar_authority::AuthorityError| AgentError::Key(error.to_string());
    let key = PrivateKey::generate(KeyType::EcP256).map_err(failed)?;
    let csr = csr::create(&key, None, &[]).map_err(failed)?;
    let (wire, membership) = manager.link.session().renew(csr).await?;
    let expected = manager.link.identity().spiffe_id.clone();
    let now = manager.clock.wall();
    let bad = |reason| AgentError::BadAnswer { what: "RenewAgent", reason };
    let svid = HeldSvid::accept(wire, key, Some(&expected), now).map_err(bad)?;
    let held = manager.link.identity();
    if svid.is_early(now) && !held.is_early(now) && !held.is_over(now) {
        // The server goes on to take the one of before until it has seen the new one.
        return Err(bad("it is not valid yet: compare the server's clock with this host's".into()));
    }
    let svid = Arc::new(svid.with_membership(membership));
    manager.adopt(Arc::clone(&svid)).await?;
    Ok(svid)
}
