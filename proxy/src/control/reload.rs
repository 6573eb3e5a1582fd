//! Takes new settings and policies into force while the proxy runs: whole and valid, or not at all.
//!
//! An invalid file changes nothing; it is logged with line and column and stays visible in `/ready` until it is
//! corrected.

pub mod files;

use std::{path::PathBuf, sync::Arc};

use svidecar_config::{load::Loader, proxy::ProxySettings};
use svidecar_process::clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::files::FileWatch;
use crate::{
    error::ProxyError,
    plan::{Plan, tls::TlsSource},
    runtime::{listeners::Listeners, shared::Shared, workers::Workers},
};

/// Reloads on request and when a file changes.
pub struct Reloader {
    /// Reads the settings again, from the same places.
    pub loader: Loader<ProxySettings>,
    /// Where handshakes find the identity.
    pub source: TlsSource,
    /// Where the plan is put in force.
    pub shared: Arc<Shared>,
    /// Who gets new listeners.
    pub workers: Arc<Workers>,
    /// The listeners that are open.
    pub listeners: Listeners,
}

impl Reloader {
    /// Runs until `stop`. Each message of `requests` asks for a reload (SIGHUP).
    pub async fn run(mut self, mut requests: mpsc::Receiver<()>, stop: CancellationToken) {
        let mut watch = match FileWatch::new() {
            Ok(watch) => Some(watch),
            Err(error) => {
                warn!(%error, "Files cannot be watched; send SIGHUP after a change");
                None
            }
        };
        if let Some(watch) = &mut watch {
            // A file may have changed between the start and the first watch.
            self.watch_files(watch);
            self.reload().await;
        }
        loop {
            if let Some(watch) = &mut watch {
                self.watch_files(watch);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                request = requests.recv() => match request {
                    Some(()) => info!("Reloading by request"),
                    None => return,
                },
                changed = changed(&mut watch) => if let Err(error) = changed {
                    warn!(%error, "Files cannot be watched any more; send SIGHUP after a change");
                    watch = None;
                    continue;
                },
            }
            self.reload().await;
        }
    }

    /// Reads everything again and puts it in force if it is valid.
    pub async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(true) => {
                self.shared.telemetry.state().count_reload(true);
                self.shared.reload.send_modify(|status| {
                    status.generation += 1;
                    status.since = clock::unix().as_secs();
                    status.error = None;
                });
                info!("New settings and policies are in force");
            }
            Ok(false) => {
                self.shared.telemetry.state().config_current.set(1);
                self.shared.reload.send_if_modified(|status| status.error.take().is_some());
            }
            Err(error) => {
                self.shared.telemetry.state().count_reload(false);
                error!(
                    code = error.code().name(),
                    "The new files are not valid; what was in force stays so:\n{error}"
                );
                self.shared.reload.send_modify(|status| {
                    status.failures += 1;
                    status.error = Some(error.to_string());
                });
            }
        }
    }

    /// Whether anything changed.
    async fn try_reload(&mut self) -> Result<bool, ProxyError> {
        let settings = self.loader.load()?.value;
        let before = Arc::clone(&self.shared.current.load().plan);
        let plan = Plan::compile(settings, &self.source, Some(&before))?;
        if plan.same_as(&before) {
            return Ok(false);
        }
        warn_of_restart(&before.settings, &plan.settings);
        // Addresses are taken before anything changes, so that one that is taken changes nothing.
        let opened = self.listeners.open_new(&plan, self.workers.count())?;
        let plan = Arc::new(plan);
        self.shared.current.replace_plan(Arc::clone(&plan));
        self.listeners.take_over(opened, &plan, &self.workers).await?;
        Ok(true)
    }

    fn watch_files(&self, watch: &mut FileWatch) {
        let plan = Arc::clone(&self.shared.current.load().plan);
        let config: Option<PathBuf> = self.loader.config_file();
        let files = config.as_deref().into_iter().chain(plan.policy_files());
        if let Err(error) = watch.watch(files) {
            warn!(%error, "A file is not watched; send SIGHUP after it changed");
        }
    }
}

async fn changed(watch: &mut Option<FileWatch>) -> std::io::Result<()> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Some settings are read once, when the process starts.
fn warn_of_restart(before: &ProxySettings, after: &ProxySettings) {
    let mut keys = Vec::new();
    let mut note = |changed: bool, key: &'static str| {
        if changed {
            keys.push(key);
        }
    };
    note(before.workload_api != after.workload_api, "workload_api");
    note(before.trust_domain != after.trust_domain, "trust_domain");
    note(before.identity != after.identity, "identity");
    note(before.workers != after.workers, "workers");
    note(before.log != after.log, "log");
    note(before.access_log != after.access_log, "access_log");
    note(before.admin != after.admin, "admin");
    note(before.local_api != after.local_api, "local_api");
    if !keys.is_empty() {
        warn!(keys = keys.join(", "), "These settings changed and take effect with the next start");
    }
}
