//! The agent from start to end: settings, sockets, first SVID, tasks, shutdown.
//!
//! Owns the order. The sockets are there before the first SVID, so that workloads that come early are told
//! why they have to wait.

pub mod wrapper;

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use svidecar_authority::{key::KeyType, x509::verify_peer};
use svidecar_config::{
    address::ListenAddress,
    agent::{AgentSettings, DockerAttestorSettings},
    server::KeyType as ConfiguredKeyType,
};
use svidecar_process::{
    Clock, Metrics, Tasks, Termination, WrapperError,
    http::serve_pages,
    memory::{self, Pressure},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::ServingStatus;

use crate::{
    attest::{
        Attestor, DockerAttestor, UnixAttestor, WorkloadAttestor,
        container::{Locator, Own},
    },
    cache::Cache,
    endpoints::{self, admin::AdminApi, callers::Callers, http::Probes, workload_api::WorkloadApi},
    error::AgentError,
    join::{Attested, Rejoin, Source, TokenSource, first_svid},
    manager::{self, Fatal, Manager, Options, persist, renewal, signer},
    server::{Address, BundleSource, Link},
    state::{AgentState, Store},
    status::Status,
    svid::{HeldSvid, unix_time},
    sync,
};

/// Longest wait for calls in flight at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Checks what `run` would check before it listens: the token, the bundle and the data directory.
///
/// # Errors
/// The first thing that would stop `run`.
pub fn validate(settings: &AgentSettings) -> Result<(), AgentError> {
    let store = Store::new(&settings.data_dir, settings.trust_domain.clone());
    store.check()?;
    let state = store.load_agent()?;
    if state.is_some_and(|state| state.svid.is_some()) {
        return Ok(());
    }
    let token = TokenSource::of(settings).read()?.ok_or(AgentError::NoJoinToken)?;
    Source::choose(settings, &token)?.check(&settings.trust_domain)
}

/// Runs until SIGTERM or SIGINT, or until the agent cannot go on.
///
/// # Errors
/// As [`run`].
pub async fn until_stopped(settings: AgentSettings) -> Result<(), AgentError> {
    let mut termination = Termination::new().map_err(|source| WrapperError::Signals { source })?;
    let stop = async {
        termination.next().await;
    };
    run(settings, || (), stop).await
}

/// Runs until `stop` resolves, or until the agent cannot go on. `serving` is called once the sockets are there.
///
/// # Errors
/// Why it could not start, or could not go on. A server that is away is neither.
pub async fn run(
    settings: AgentSettings,
    serving: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    run_by(Clock::system(), settings, serving, stop).await
}

/// As [`run`], by a clock that a test can set.
///
/// # Errors
/// As [`run`].
pub async fn run_by(
    clock: Clock,
    settings: AgentSettings,
    serving: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let store = Store::new(&settings.data_dir, settings.trust_domain.clone());
    store.prepare()?;
    let mut state = store.load_agent()?;
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let _stops_with_us = shutdown.clone().drop_guard();
    let vital = Tasks::new(tasks.clone(), shutdown.clone());
    let sockets = Sockets::open(&settings, &tasks, &vital, &shutdown).await?;
    serving();

    tokio::pin!(stop);
    let first = first_svid(&settings, &clock, &store, &mut state, &sockets.status);
    let agent = tokio::select! {
        agent = first => match agent {
            Err(error @ AgentError::Evicted { .. }) => {
                store.set_aside()?;
                return Err(error);
            }
            agent => agent?,
        },
        () = &mut stop => return Ok(()),
        lost = vital.lost() => return Err(lost.into()),
    };
    let (fatal, mut ended) = mpsc::channel(1);
    let supervision = Supervision { tasks: vital.clone(), shutdown: shutdown.clone(), fatal };
    let manager = start(&settings, (agent, clock), store.clone(), &sockets.status, supervision);
    tracing::info!(
        spiffe_id = %manager.link.identity().spiffe_id, server = %manager.link.address(),
        socket = %settings.socket_path.display(), trust_domain = %settings.trust_domain,
        "the agent is ready"
    );
    sockets.manager.send_replace(Some(Arc::clone(&manager)));
    sockets.health.set_service_status("", ServingStatus::Serving).await;

    let outcome = tokio::select! {
        () = stop => Ok(()),
        Some(error) = ended.recv() => Err(error),
        lost = vital.lost() => Err(lost.into()),
    };
    tracing::info!("the agent is shutting down");
    sockets.health.set_service_status("", ServingStatus::NotServing).await;
    shutdown.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!("some calls did not end in time");
    }
    if let Err(AgentError::Evicted { .. }) = outcome {
        // After the last write of the tasks, so that nothing brings it back.
        store.set_aside()?;
    }
    outcome
}

/// What listens, and how the rest of the agent speaks to it.
struct Sockets {
    status: watch::Sender<Status>,
    manager: watch::Sender<Option<Arc<Manager>>>,
    health: tonic_health::server::HealthReporter,
}

impl Sockets {
    async fn open(
        settings: &AgentSettings,
        tasks: &TaskTracker,
        vital: &Tasks,
        shutdown: &CancellationToken,
    ) -> Result<Self, AgentError> {
        let (status, _) = watch::channel(Status::default());
        let (manager, _) = watch::channel(None);
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status("", ServingStatus::NotServing).await;
        let attestor = attestor(settings, tasks, shutdown);
        let callers =
            Callers::new(manager.subscribe(), status.subscribe(), attestor.clone(), shutdown.clone());
        let api = WorkloadApi::new(callers, settings.allow_unauthenticated_verifiers);
        let listener = endpoints::bind_workload(&settings.socket_path).await?;
        let quota = endpoints::Quota::of_this_process();
        let callers = quota.clone();
        let tell = move |pressure| {
            if pressure == Pressure::Cut {
                callers.cut_greediest();
            }
        };
        vital.spawn_until_done("memory", memory::watch(shutdown.clone(), tell));
        let serve = endpoints::serve_workload_uds(
            listener,
            api.clone(),
            health_service.clone(),
            quota.clone(),
            shutdown.clone(),
        );
        vital.spawn("Workload API", served("Workload API", serve));
        if let Some(address) = settings.tcp_listen.address() {
            let ListenAddress::Tcp(address) = address else { return Err(not_tcp("tcp_listen", address)) };
            let listener = endpoints::bind_tcp(*address).await?;
            log_address("the Workload API listens on TCP", &listener);
            let serve = endpoints::serve_workload_tcp(listener, api, health_service, quota, shutdown.clone());
            vital.spawn("Workload API on TCP", served("Workload API on TCP", serve));
        }
        let listener = endpoints::bind_admin(&settings.admin_socket()).await?;
        let admin = AdminApi {
            manager: manager.subscribe(),
            status: status.subscribe(),
            attestor,
            server: Address::of(settings),
        };
        let serve = endpoints::serve_admin(listener, admin, shutdown.clone());
        vital.spawn("admin API", served("admin API", serve));
        if let Some(address) = settings.health.listen.address() {
            let ListenAddress::Tcp(address) = address else { return Err(not_tcp("health.listen", address)) };
            let listener = TcpListener::bind(address).await.map_err(|error| AgentError::Listen {
                address: address.to_string(),
                reason: error.to_string(),
            })?;
            log_address("health and metrics listen", &listener);
            let metrics = Metrics::new();
            metrics.take_all();
            vital.spawn("metrics", metrics.clone().keep_up(shutdown.clone()));
            let probes = Probes { status: status.subscribe(), manager: manager.subscribe(), metrics };
            let answer = move |path: String| std::future::ready(probes.answer(&path));
            vital.spawn("health pages", serve_pages(listener, answer, shutdown.clone()));
        }
        Ok(Self { status, manager, health })
    }
}

fn attestor(settings: &AgentSettings, tasks: &TaskTracker, shutdown: &CancellationToken) -> WorkloadAttestor {
    let limit = match settings.unix.workload_size_limit.bytes() {
        0 => u64::MAX,
        bytes => bytes,
    };
    let unix = UnixAttestor::new(settings.unix.discover_workload_path, limit);
    let mut attestors: Vec<Arc<dyn Attestor>> = vec![Arc::new(unix)];
    if settings.docker.enabled {
        let docker = Arc::new(DockerAttestor::new(&settings.docker, Arc::new(Locator::new(Own::read()))));
        attestors.push(Arc::clone(&docker) as _);
        let (settings, shutdown) = (settings.docker.clone(), shutdown.clone());
        tasks.spawn(async move {
            shutdown.run_until_cancelled(docker.announce(&settings)).await;
        });
    } else if settings.docker != DockerAttestorSettings::default() {
        tracing::warn!("docker.enabled is false, so the other settings below `docker` do nothing");
    }
    WorkloadAttestor::new(attestors)
}

fn not_tcp(key: &str, address: &ListenAddress) -> AgentError {
    AgentError::Listen { address: address.to_string(), reason: format!("{key} takes a TCP address") }
}

fn log_address(what: &str, listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "{what}");
    }
}

async fn served(what: &'static str, serve: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(error) = serve.await {
        tracing::error!(%error, "the {what} ended");
    }
}

/// What the tasks run under.
struct Supervision {
    /// Every task is in here.
    tasks: Tasks,
    /// Ends them.
    shutdown: CancellationToken,
    /// Where a task says that the agent has to end.
    fatal: Fatal,
}

/// Puts the attested agent together and starts the tasks that keep it current.
fn start(
    settings: &AgentSettings,
    (agent, clock): (Attested, Clock),
    store: Store,
    status: &watch::Sender<Status>,
    supervision: Supervision,
) -> Arc<Manager> {
    let cache = Arc::new(Mutex::new(restore(settings, &agent.state, &store, clock.wall())));
    let bundles: BundleSource = {
        let cache = Arc::clone(&cache);
        Arc::new(move || {
            let cache = cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(cache.bundles().set())
        })
    };
    status.send_modify(|status| status.attested = true);
    let insecure = f64::from(u8::from(agent.state.joined.insecure_bootstrap));
    metrics::gauge!("svidecar_agent_insecure_bootstrap").set(insecure);
    let options = Options {
        key_type: key_type(settings.workload_x509_svid_key_type),
        sync_interval: settings.sync_interval.get(),
        miss_lookup_timeout: settings.miss_lookup_timeout.get(),
    };
    let link = Link::new(Address::of(settings), agent.identity, bundles);
    let rejoin = Rejoin::of(settings, store.clone());
    let own = manager::Own { link, store, joined: agent.state.joined, clock };
    let (manager, lookups) = Manager::new(options, own, cache, status.clone());
    let Supervision { tasks, shutdown, fatal } = supervision;
    // These two end when they have said why the agent has to.
    let sync = sync::run(Arc::clone(&manager), lookups, rejoin, fatal.clone(), shutdown.clone());
    tasks.spawn_until_done("sync", sync);
    tasks.spawn("signing", signer::run(Arc::clone(&manager), shutdown.clone()));
    tasks.spawn("clock", manager::time::run(Arc::clone(&manager), shutdown.clone()));
    let renewal = renewal::run(Arc::clone(&manager), fatal, shutdown.clone());
    tasks.spawn_until_done("renewal", renewal);
    tasks.spawn("writing of state", persist::run(Arc::clone(&manager), shutdown));
    manager
}

/// What was on disk. A damaged cache is an empty one.
fn restore(settings: &AgentSettings, state: &AgentState, store: &Store, now: SystemTime) -> Cache {
    let kept = store.load_workloads().unwrap_or_else(|error| {
        tracing::warn!(%error, code = error.code().name(), "beginning without the cached identities");
        Default::default()
    });
    let own = state.bundle.iter().map(|bundle| bundle.as_ref().clone());
    let foreign = kept.bundles.into_iter().filter(|bundle| bundle.trust_domain != settings.trust_domain);
    let mut cache = Cache::new(settings.trust_domain.clone(), own.chain(foreign));
    let bundles = Arc::clone(cache.bundles().set());
    // What a server signed that has been replaced is of no use to anybody. What only the time speaks against is: the clock
    // may be wrong.
    let is_good = |svid: &HeldSvid| {
        let in_its_life = now.max(svid.not_before).min(svid.not_after);
        verify_peer(&svid.chain, &bundles, unix_time(in_its_life)).is_ok()
    };
    let entries = kept.entries.len();
    for (entry, svid) in kept.entries {
        cache.restore(entry, svid.filter(is_good), now);
    }
    if entries > 0 {
        tracing::info!(entries, "identities from before are served until the server says otherwise");
    }
    cache
}

fn key_type(configured: ConfiguredKeyType) -> KeyType {
    match configured {
        ConfiguredKeyType::EcP256 => KeyType::EcP256,
        ConfiguredKeyType::EcP384 => KeyType::EcP384,
        ConfiguredKeyType::Rsa2048 => KeyType::Rsa2048,
        ConfiguredKeyType::Rsa4096 => KeyType::Rsa4096,
    }
}
