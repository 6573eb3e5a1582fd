//! Starting, running and stopping the server.
//!
//! Owns the order in which parts come up and go down. Nothing listens before the CA can sign; nothing is
//! changed on disk before the settings are known to work.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use svidecar_api::transport::uds;
use svidecar_authority::time::rfc3339;
use svidecar_config::{address::ListenAddress, problems::Problems, server::ServerSettings};
use svidecar_process::{Clock, Metrics, Tasks, Termination, http, private, tasks::Lost};
use tokio::{net::TcpListener, task::JoinHandle, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    backup::{self, DATABASE, KEYS},
    ca::{self, CaManager, Moment},
    clock::ClockGuard,
    entries::AuthorizedEntries,
    error::ServerError,
    health,
    rpc::{Endpoints, Services, WatchService},
    state::State,
    store::{SqliteStore, Store, StoreError, unix_seconds},
    telemetry,
};

/// How often what has ended is pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long an expired join token is remembered, so that its late user learns that it expired.
const KEEP_TOKENS_SECONDS: i64 = 24 * 3600;

/// Events kept for whoever follows the log.
const KEEP_EVENTS: u64 = 100_000;

/// How long calls in flight may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Checks what only the running parts know of the settings, as [`run`] does, and touches nothing. Each problem
/// is noted with its key, so that the loader can say in which line it stands.
pub fn check(settings: &ServerSettings, problems: &mut Problems) {
    for problem in ca::check_settings(settings) {
        problems.add(problem.setting().unwrap_or_default(), problem.to_string());
    }
    if let Some(address @ ListenAddress::Unix(_)) = settings.health.listen.address() {
        let message = format!(
            "`health.listen` is {address}; expected an IP address and a port, such as 127.0.0.1:9090"
        );
        problems.add("health.listen", message);
    }
    if !settings.socket_path.is_absolute() {
        let path = settings.socket_path.display();
        let message =
            format!("`socket_path` is {path}; expected an absolute path, such as /run/svidecar/server.sock");
        problems.add("socket_path", message);
    }
}

/// As [`check`], for settings that were not read from anywhere.
///
/// # Errors
/// [`ServerError::Settings`] with all that cannot work.
pub fn validate(settings: &ServerSettings) -> Result<(), ServerError> {
    let mut problems = Problems::default();
    check(settings, &mut problems);
    let problems: Vec<_> = problems.iter().map(|problem| problem.message.clone()).collect();
    if problems.is_empty() { Ok(()) } else { Err(ServerError::Settings(problems)) }
}

/// Runs the server until SIGINT or SIGTERM; a second signal does not wait for calls in flight.
///
/// # Errors
/// [`ServerError`] when it cannot start, or has to stop.
pub async fn run(settings: ServerSettings) -> Result<(), ServerError> {
    let mut termination = Termination::new().map_err(ServerError::Signals)?;
    let metrics = Metrics::new();
    let metrics = metrics.take_all().then_some(metrics);
    telemetry::describe();

    let shutdown = CancellationToken::new();
    let server = Server::start(settings, Clock::system(), metrics, shutdown.clone()).await?;
    let mut ended = std::pin::pin!(server.wait());
    tokio::select! {
        ended = &mut ended => return ended,
        signal = termination.next() => tracing::info!("stopping on {signal}; once more to stop at once"),
    }
    shutdown.cancel();
    tokio::select! {
        ended = &mut ended => ended,
        _ = termination.next() => Ok(()),
    }
}

/// A server that serves.
pub struct Server {
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where administrators connect.
    pub socket_path: PathBuf,
    /// Where probes connect, when they may.
    pub health_address: Option<SocketAddr>,
    serving: JoinHandle<Result<(), ServerError>>,
    tasks: TaskTracker,
    /// Those of them that it cannot do without.
    vital: Tasks,
    shutdown: CancellationToken,
}

impl Server {
    /// Starts every part; when it returns, calls are answered.
    ///
    /// # Errors
    /// [`ServerError`] of the first part that cannot start.
    pub async fn start(
        settings: ServerSettings,
        clock: Clock,
        metrics: Option<Metrics>,
        shutdown: CancellationToken,
    ) -> Result<Self, ServerError> {
        validate(&settings)?;
        private::check_directory(&settings.data_dir)?;
        private::check_keys(&settings.data_dir.join(DATABASE))?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&settings.data_dir.join(DATABASE)).await?);
        backup::remove_remains(&settings.data_dir);
        let keys = settings.data_dir.join(KEYS);
        let guard = Arc::new(ClockGuard::open(clock.clone(), Arc::clone(&store)).await?);
        let ca = Arc::new(CaManager::open(&settings, Arc::clone(&store), &keys, guard.moment()).await?);
        let entries = Arc::new(AuthorizedEntries::open(Arc::clone(&store), &settings.trust_domain).await?);
        let state = Arc::new(State::new(&settings, store, entries, ca, (clock, guard)));

        let tcp = listen(settings.bind()).await?;
        let address =
            tcp.local_addr().map_err(|error| ServerError::Listen { address: settings.bind(), error })?;
        let local = uds::Listener::bind(&settings.socket_path, 0o600, 0o755).await?;
        let health_listener = match settings.health.listen.address() {
            Some(ListenAddress::Tcp(address)) => Some(listen(*address).await?),
            _ => None,
        };
        let health_address = health_listener.as_ref().and_then(|listener| listener.local_addr().ok());

        let tasks = TaskTracker::new();
        let vital = Tasks::new(tasks.clone(), shutdown.clone());
        let reporter = HealthReporter::new();
        let health_service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let watch = WatchService::new(Arc::clone(&state), shutdown.clone());
        let services = Services::new(Arc::clone(&state), watch, health_service, settings.admin_ids.clone())?;
        spawn_upkeep(&state, &vital, &shutdown);
        vital.spawn("health report", health::report(Arc::clone(&state), reporter, shutdown.clone()));
        if let Some(metrics) = metrics.clone() {
            vital.spawn("metrics", metrics.keep_up(shutdown.clone()));
        }
        if let Some(listener) = health_listener {
            let state = Arc::clone(&state);
            let answer = move |path| health::answer(Arc::clone(&state), metrics.clone(), path);
            vital.spawn("health pages", http::serve_pages(listener, answer, shutdown.clone()));
        }
        let serving = tasks.spawn(services.serve(Endpoints { tcp, local }, vital.clone(), shutdown.clone()));

        let current = state.ca.current();
        tracing::info!(
            trust_domain = %settings.trust_domain,
            authority = current.x509.authority_id(),
            expires = rfc3339(current.x509.not_after()),
            "the CA is ready"
        );
        tracing::info!(
            %address,
            socket = %settings.socket_path.display(),
            health = health_address.map(|address| address.to_string()),
            "svidecar-server is ready"
        );
        Ok(Self {
            address,
            socket_path: settings.socket_path,
            health_address,
            serving,
            tasks,
            vital,
            shutdown,
        })
    }

    /// Waits until the server was told to stop, and every part has ended.
    ///
    /// # Errors
    /// [`ServerError::Serve`] when it ended by itself; [`ServerError::Lost`] when it went on without one of its parts.
    pub async fn wait(self) -> Result<(), ServerError> {
        let mut serving = self.serving;
        let mut lost = None;
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            first = self.vital.lost() => {
                lost = Some(first);
                self.shutdown.cancel();
                time::timeout(DRAIN, &mut serving).await.ok()
            }
            () = self.shutdown.cancelled() => time::timeout(DRAIN, &mut serving).await.ok(),
        };
        self.shutdown.cancel();
        self.tasks.close();
        if let Some(lost) = lost {
            serving.abort();
            return Err(ServerError::Lost(lost));
        }
        match ended {
            None => {
                serving.abort();
                tracing::warn!(seconds = DRAIN.as_secs(), "calls in flight were cut off");
                Ok(())
            }
            Some(result) => {
                drop(time::timeout(DRAIN, self.tasks.wait()).await);
                tracing::info!("svidecar-server has stopped");
                // Only a panic keeps the task from answering.
                result.unwrap_or_else(|error| {
                    Err(ServerError::Lost(Lost { task: "gRPC", panic: Some(error.to_string()) }))
                })
            }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|error| ServerError::Listen { address, error })
}

/// The tasks that keep state current: the index, the CA, and what has ended.
fn spawn_upkeep(state: &Arc<State>, tasks: &Tasks, shutdown: &CancellationToken) {
    let (entries, stop) = (Arc::clone(&state.entries), shutdown.clone());
    tasks.spawn("index of entries", async move { entries.follow(stop).await });
    let (ca, guard, stop) = (Arc::clone(&state.ca), Arc::clone(&state.guard), shutdown.clone());
    let jumps = guard.jumps();
    tasks.spawn("CA rotation", async move { ca.run(move || guard.moment(), jumps, stop).await });
    let (guard, stop) = (Arc::clone(&state.guard), shutdown.clone());
    tasks.spawn("clock", async move { guard.run(stop).await });
    tasks.spawn("pruning", prune(Arc::clone(state), shutdown.clone()));
}

/// Deletes entries and tokens that have ended, unless the time is in doubt, and old events.
async fn prune(state: Arc<State>, shutdown: CancellationToken) {
    let mut ticks = time::interval(PRUNE_EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let (mut steps, mut accepted) = (state.guard.jumps(), state.guard.accepted());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
            () = steps.next() => {}
            Ok(()) = accepted.changed() => {}
        }
        let Moment { now, is_certain } = state.guard.moment();
        let pruned = async {
            state.renewals.save_all().await?;
            if is_certain {
                prune_ended(&*state.store, unix_seconds(now)).await?;
            }
            state.store.prune_events(KEEP_EVENTS).await
        };
        if let Err(error) = pruned.await {
            tracing::error!(code = error.code().name(), %error, "cannot prune what has expired; trying again in a minute");
        }
    }
}

async fn prune_ended(store: &dyn Store, now: i64) -> Result<(), StoreError> {
    for entry in store.prune_entries(now).await? {
        tracing::info!(entry = entry.id, spiffe_id = %entry.spiffe_id, "entry expired");
    }
    let tokens = store.prune_tokens(now.saturating_sub(KEEP_TOKENS_SECONDS)).await?;
    if tokens > 0 {
        tracing::info!(tokens, "expired join tokens pruned");
    }
    store.prune_evictions(now).await?;
    Ok(())
}
