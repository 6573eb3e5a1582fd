//! Writes to disk what a restart needs.
//!
//! Owns the pace: changes that come in a burst are written once. What is lost in a crash is only a cache; our own SVID
//! is not, so it is written before it is used. A disk that takes nothing ends nothing: it is asked again until it does, and
//! when our own SVID is about to end, its successor is used without it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use svidecar_authority::bundle::Bundle;
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

/// Time between two tries of a disk that takes nothing.
const RETRY: Duration = Duration::from_secs(5);

/// Writes after changes, again while that fails, and once more at the end.
pub async fn run(manager: Arc<Manager>, shutdown: CancellationToken) {
    loop {
        let is_failing = manager.status.borrow().disk.is_some();
        let again =
            async { if is_failing { tokio::time::sleep(RETRY).await } else { std::future::pending().await } };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = manager.dirty.notified() => {}
            () = again => {}
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
    manager.tell_of_disk(outcome.err().as_ref());
}

impl Manager {
    /// Takes a renewed SVID into use, once it is on disk; without that only when the one of before is about to end: a restart
    /// would begin with that, and the server takes it until it has seen the new one.
    pub(super) async fn adopt(&self, svid: Arc<HeldSvid>) -> Result<(), AgentError> {
        let mut written = self.written.lock().await;
        if let Err(error) = self.save_agent(Arc::clone(&svid), &mut written).await {
            self.tell_of_disk(Some(&error));
            if !self.link.identity().is_ending(self.clock.wall()) {
                return Err(error);
            }
            tracing::warn!(
                "the renewed SVID of this agent is used before it is on disk, because the one of before is about to end"
            );
        }
        self.link.set_identity(svid);
        self.dirty.notify_one();
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

    /// Says once that the disk takes nothing, and once that it does again.
    fn tell_of_disk(&self, error: Option<&AgentError>) {
        let now = error.map(ToString::to_string);
        let is_news = self.status.borrow().disk.is_some() != now.is_some();
        metrics::gauge!("svidecar_agent_state_unsaved").set(f64::from(u8::from(now.is_some())));
        self.status.send_if_modified(|status| {
            let differs = status.disk != now;
            status.disk.clone_from(&now);
            differs
        });
        match error {
            Some(error) if is_news => tracing::error!(
                %error, code = error.code().name(),
                "state is not written: a restart would begin with what is on disk. Everything goes on from memory, and it is tried again"
            ),
            None if is_news => tracing::info!("state is written again"),
            _ => {}
        }
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
        self.cache().replace_authority(bundle, self.clock.wall() + GRACE);
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
