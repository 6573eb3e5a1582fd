//! A running proxy: the parts, started in the order in which they need each other.
//!
//! Knows no signals and no command line; those are `run`'s.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use svidecar_api::transport::{Endpoint, Usual};
use svidecar_config::{address::ListenAddress, load::Loader, place, proxy::ProxySettings};
use svidecar_process::{Clock, Tasks, memory};
use svidecar_workload::Choice;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    control::{
        admin::{self, Admin},
        identity,
        local::{self, LocalApi},
        ready,
        reload::Reloader,
        time,
    },
    error::ProxyError,
    forward,
    plan::{Plan, snapshot::Current, tls::TlsSource},
    record::Telemetry,
    runtime::{
        drain::{Direction, Phase},
        listeners::Listeners,
        shared::Shared,
        workers::{self, Workers},
    },
};

/// How long the last log lines may take.
pub const LOG_DEADLINE: Duration = Duration::from_secs(1);

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    workers: Arc<Workers>,
    addresses: Vec<(Direction, String, ListenAddress)>,
    admin: Option<SocketAddr>,
    local_api: Option<ListenAddress>,
    tasks: TaskTracker,
    vital: Tasks,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts everything: settings and policies are compiled and all addresses bound before the first task runs. Each
    /// message of `reload_requests` asks for a reload.
    ///
    /// # Errors
    /// What keeps it from starting; nothing is left behind.
    pub async fn start(
        loader: Loader<ProxySettings>,
        settings: ProxySettings,
        reload_requests: mpsc::Receiver<()>,
    ) -> Result<Self, ProxyError> {
        let endpoint = workload_api(&settings)?;
        let choice = Choice {
            spiffe_id: settings.identity.spiffe_id.clone(),
            hint: settings.identity.hint.clone(),
            trust_domain: settings.trust_domain.clone(),
        };
        let count = workers::count(settings.workers);
        let source = TlsSource::default();
        let plan = Arc::new(Plan::compile(settings, &source, None)?);
        let mut listeners = Listeners::default();
        let opened = listeners.open_new(&plan, count)?;
        let admin_socket = admin::bind(&plan.settings.admin).await?;
        let local_socket = local::bind(&plan.settings.local_api)?;
        let telemetry = Telemetry::start(&plan.settings.access_log)
            .map_err(|source| ProxyError::System { what: "open the access log", source })?;

        let current = Current::new(Arc::clone(&plan), &endpoint);
        source.attach(&current);
        let shared = Shared::new(Arc::clone(&current), telemetry);
        let workers = Arc::new(Workers::start(count, &shared, forward::service)?);
        listeners.take_over(opened, &plan, &workers).await?;
        let addresses: Vec<_> = listeners
            .all()
            .map(|(direction, name, address)| (direction, name.to_owned(), address.clone()))
            .collect();

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let updates = shared.telemetry.state().svid_updates.clone();
        let clock = time::follow(Clock::system().steps(), Arc::clone(&current), stop.clone());
        let identity = identity::keep_current(endpoint.clone(), choice, current, updates);
        let vital = Tasks::new(tasks.clone(), stop.clone());
        let stopped = stop.clone();
        vital.spawn("identity", async move {
            stopped.run_until_cancelled_owned(identity).await;
        });
        vital.spawn("clock", clock);
        vital.spawn("telemetry", shared.telemetry.keep_up(stop.clone()));
        let short = Arc::clone(&shared);
        let tell = move |pressure| short.shortage.tell_of_memory(pressure);
        vital.spawn_until_done("memory", memory::watch(stop.clone(), tell));
        vital.spawn("readiness", ready::announce(Arc::clone(&shared), stop.clone()));
        let reloader = Reloader {
            loader,
            source,
            shared: Arc::clone(&shared),
            workers: Arc::clone(&workers),
            listeners,
        };
        vital.spawn_until_done("reload", reloader.run(reload_requests, stop.clone()));
        let local_api = local_socket.as_ref().map(|bound| bound.address.clone());
        if let Some(bound) = local_socket {
            let (shared, endpoint) = (Arc::clone(&shared), endpoint.clone());
            let api = LocalApi { shared, endpoint, settings: plan.settings.local_api.clone() };
            vital.spawn("local_api", api.run(bound, stop.clone()));
        }
        let admin = admin_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        match admin_socket {
            Some(socket) => {
                let admin = Admin { shared: Arc::clone(&shared), workers: Arc::clone(&workers), endpoint };
                vital.spawn("admin", admin.run(socket, stop.clone()));
            }
            None => info!("The admin listener is off"),
        }
        info!(
            version = env!("CARGO_PKG_VERSION"),
            workers = count,
            admin = admin.map(tracing::field::display),
            "svidecar is up"
        );
        Ok(Self { shared, workers, addresses, admin, local_api, tasks, vital, stop })
    }

    /// What all threads share.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where the listener of that name listened when the proxy started.
    #[must_use]
    pub fn address(&self, direction: Direction, name: &str) -> Option<&ListenAddress> {
        let mut all = self.addresses.iter();
        all.find(|(its, other, _)| *its == direction && other == name).map(|(_, _, address)| address)
    }

    /// Where the admin listens.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where tokens are given out.
    #[must_use]
    pub const fn local_api(&self) -> Option<&ListenAddress> {
        self.local_api.as_ref()
    }

    /// Waits for a worker, or for a task that the proxy cannot do without, to fail, which should never happen.
    pub async fn failed(&self) -> ProxyError {
        tokio::select! {
            () = self.workers.failed() => ProxyError::WorkerEnded { index: 0 },
            lost = self.vital.lost() => ProxyError::Lost(lost),
        }
    }

    /// Ends everything at once; drain first. Blocks until the workers have ended.
    pub fn stop(self) {
        if self.shared.drain.phase() == Phase::Running {
            warn!("Stopping without a drain");
        }
        self.stop.cancel();
        self.tasks.close();
        self.workers.stop();
        self.shared.telemetry.close(LOG_DEADLINE);
    }
}

/// Who tells us who we are.
fn workload_api(settings: &ProxySettings) -> Result<Endpoint, ProxyError> {
    let Some(given) = &settings.workload_api else {
        let place::Usual { ours, anybodys } = place::workload_sockets();
        return Ok(Endpoint::Usual(Usual::new(ours, anybodys)));
    };
    Endpoint::parse(given).map_err(|error| ProxyError::WorkloadApi(error.to_string()))
}
