//! Writes to disk what a restart needs.
//!
//! Owns the pace: changes that come in a burst are written once. What is lost in a crash is only a cache.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Manager;
use crate::{
    error::AgentError,
    state::{AgentState, Store},
    svid::HeldSvid,
};

/// Least time between two writes.
const PACE: Duration = Duration::from_secs(1);

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
        tracing::error!(%error, code = error.code(), "a restart would have to begin anew: state was not written");
    }
}

impl Manager {
    /// Takes a renewed SVID into use, once it is on disk.
    pub(super) async fn adopt(&self, svid: Arc<HeldSvid>) -> Result<(), AgentError> {
        let _writing = self.writing.lock().await;
        self.save_agent(Arc::clone(&svid)).await?;
        self.link.set_identity(svid);
        Ok(())
    }

    async fn save_current(&self) -> Result<(), AgentError> {
        let _writing = self.writing.lock().await;
        self.save_agent(self.link.identity()).await
    }

    async fn save_agent(&self, svid: Arc<HeldSvid>) -> Result<(), AgentError> {
        let bundle = self.bundles().get(&self.link.address().trust_domain).cloned();
        let insecure_bootstrap = self.options.insecure_bootstrap;
        let state = AgentState { key: svid.key.clone(), svid: Some(svid), bundle, insecure_bootstrap };
        self.blocking(move |store| store.save_agent(&state)).await
    }

    async fn save_workloads(&self) -> Result<(), AgentError> {
        let held: Vec<_> =
            self.cache().held().map(|(entry, svid)| (Arc::clone(entry), svid.cloned())).collect();
        let bundles: Vec<_> = self.bundles().iter().cloned().collect();
        self.blocking(move |store| store.save_workloads(&held, &bundles)).await
    }

    async fn blocking(
        &self,
        write: impl FnOnce(&Store) -> Result<(), AgentError> + Send + 'static,
    ) -> Result<(), AgentError> {
        let store = self.store.clone();
        // A panic inside is a bug that the log of the panic shows; there is nothing to write then.
        tokio::task::spawn_blocking(move || write(&store)).await.unwrap_or(Ok(()))
    }
}
