//! Writes to disk what a restart needs.
//!
//! Owns the pace: changes that come in a burst are written once. What is lost in a crash is only a cache; our own SVID
//! is not, so it is written before it is used.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use svidecar_authority::bundle::Bundle;
use svidecar_process::clock;
use tokio_util::sync::CancellationToken;

use super::{Manager, written::Written};
use crate::{
    cache::Change,
    error::AgentError,
    state::{AgentState, Joined},
    svid::HeldSvid,
};

/// Least time between two writes.
const PACE: Duration = Duration::from_secs(1);

/// How long entries that the old server made may wait for the new server's word.
const GRACE: Duration = Duration::from_secs(30);

/// Writes after changes, and once more at the end.
pub async fn run(manager: Arc<Manager>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = manager.dirty.notified() => {}
        }
        save(&manager).await;
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(PACE) => {}
        }
    }
    save(&manager).await;
}

async fn save(manager: &Arc<Manager>) {
    let outcome = match manager.save_current().await {
        Ok(()) => manager.save_workloads().await,
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        tracing::error!(%error, code = error.code().name(), "a restart would have to begin anew: state was not written");
    }
}

impl Manager {
    /// Takes a renewed SVID into use, once it is on disk.
    pub(super) async fn adopt(&self, svid: Arc<HeldSvid>) -> Result<(), AgentError> {
        let mut written = self.written.lock().await;
        self.save_agent(Arc::clone(&svid), &mut written).await?;
        self.link.set_identity(svid);
        Ok(())
    }

    /// Goes on as the agent that has come back.
    ///
    /// # Errors
    /// When it cannot be written; then the SVID has not changed.
    pub(crate) async fn resume(&self, svid: Arc<HeldSvid>, bundle: &Bundle) -> Result<(), AgentError> {
        // The link verifies the server by it from now on.
        self.apply(Change { bundles: vec![bundle.clone()], ..Change::default() });
        self.adopt(svid).await
    }

    /// Goes over to another server, and drops what the one before signed.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub(crate) async fn take_over(
        &self,
        svid: Arc<HeldSvid>,
        bundle: Arc<Bundle>,
        joined: Joined,
    ) -> Result<(), AgentError> {
        let mut written = self.written.lock().await;
        let state = AgentState {
            key: svid.key.clone(),
            svid: Some(Arc::clone(&svid)),
            bundle: Some(Arc::clone(&bundle)),
            joined: joined.clone(),
        };
        self.store
            .off_the_async_threads(move |store| {
                store.save_agent(&state)?;
                store.forget_joining()
            })
            .await?;
        *written = Some(Written::new(Arc::clone(&svid), Some(Arc::clone(&bundle))));
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = joined;
        metrics::gauge!("svidecar_agent_insecure_bootstrap").set(0.0);
        self.cache().replace_authority(bundle, clock::wall() + GRACE);
        self.tokens().retain(|_| false);
        self.link.set_identity(svid);
        self.dirty.notify_one();
        Ok(())
    }

    async fn save_current(&self) -> Result<(), AgentError> {
        let mut written = self.written.lock().await;
        self.save_agent(self.link.identity(), &mut written).await
    }

    async fn save_agent(&self, svid: Arc<HeldSvid>, written: &mut Option<Written>) -> Result<(), AgentError> {
        let bundle = self.bundles().get(&self.link.address().trust_domain).cloned();
        let now = Written::new(svid, bundle);
        if written.as_ref().is_some_and(|before| before.is(&now)) {
            return Ok(());
        }
        let state = AgentState {
            key: now.svid.key.clone(),
            svid: Some(Arc::clone(&now.svid)),
            bundle: now.bundle.clone(),
            joined: self.joined(),
        };
        self.store.off_the_async_threads(move |store| store.save_agent(&state)).await?;
        *written = Some(now);
        Ok(())
    }

    async fn save_workloads(&self) -> Result<(), AgentError> {
        let held: Vec<_> =
            self.cache().held().map(|(entry, svid)| (Arc::clone(entry), svid.cloned())).collect();
        let bundles: Vec<_> = self.bundles().iter().cloned().collect();
        self.store.off_the_async_threads(move |store| store.save_workloads(&held, &bundles)).await
    }
}
