//! Both endpoints with all services behind the gate.

use std::{sync::Arc, time::Duration};

use svidecar_api::{
    SERVER_FILE_DESCRIPTOR_SET,
    spire::api::server::{
        agent::v1::agent_server::AgentServer, bundle::v1::bundle_server::BundleServer,
        entry::v1::entry_server::EntryServer,
        localauthority::v1::local_authority_server::LocalAuthorityServer, svid::v1::svid_server::SvidServer,
    },
    svidecar::server::v1::{
        backup_server::BackupServer, bootstrap_keys_server::BootstrapKeysServer, clock_server::ClockServer,
        join_tokens_server::JoinTokensServer, watch_server::WatchServer,
    },
    transport::uds,
};
use svidecar_id::SpiffeId;
use svidecar_process::Tasks;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{service::Routes, transport::Server};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};

use super::{
    agent::AgentService,
    backup::BackupService,
    bootstrap::BootstrapKeyService,
    bundle::BundleService,
    clock::ClockService,
    entry::EntryService,
    gate::{Gate, GateLayer, MAX_OPEN_REQUEST},
    handshake::Handshakes,
    join_token::JoinTokenService,
    listen,
    local_authority::LocalAuthorityService,
    svid::SvidService,
    watch::WatchService,
};
use crate::{error::ServerError, state::State};

/// Largest request of callers that have proven who they are.
const MAX_REQUEST: usize = 16 << 20;

/// Largest request to the Agent service, where anybody may attest.
const MAX_AGENT_REQUEST: usize = MAX_OPEN_REQUEST;

/// Age at which a connection is told to make place for a new one, as SPIRE does, so that the agents of a server
/// that was added or restarted spread out again. Calls in flight are finished.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(180);

/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a call may take until its answer begins: of a member of the trust domain, and of a stranger.
const CALL: Duration = Duration::from_secs(60);
const STRANGERS_CALL: Duration = Duration::from_secs(10);

/// Calls at the same time on one connection.
const MAX_STREAMS: u32 = 256;
const STRANGERS_STREAMS: u32 = 4;

/// What a stranger may send ahead, on a stream and on a connection, and its headers: the least that HTTP/2 knows, and enough.
const STRANGERS_WINDOW: u32 = 65_535;
const STRANGERS_HEADERS: u32 = 8 << 10;

/// Both listening sockets.
pub struct Endpoints {
    /// Where agents connect.
    pub tcp: TcpListener,
    /// Where administrators connect.
    pub local: uds::Listener,
}

/// All services, ready to be served.
pub struct Services {
    state: Arc<State>,
    /// For who has proven who it is.
    members: Routes,
    /// The same for who has not, with smaller requests.
    strangers: Routes,
    gate: GateLayer,
}

impl Services {
    /// Puts the services behind the gate; `admin_ids` are administrators whatever the entries say.
    ///
    /// # Errors
    /// [`ServerError::Reflection`] when our own descriptors cannot be read, which no input can cause.
    pub fn new(
        state: Arc<State>,
        watch: WatchService,
        health: HealthServer<HealthService>,
        admin_ids: Vec<SpiffeId>,
    ) -> Result<Self, ServerError> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(SERVER_FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (v1, v1alpha) = (
            reflection().build_v1().map_err(ServerError::Reflection)?,
            reflection().build_v1alpha().map_err(ServerError::Reflection)?,
        );
        let common = Routes::new(WatchServer::new(watch))
            .add_service(LocalAuthorityServer::new(LocalAuthorityService(Arc::clone(&state))))
            .add_service(BackupServer::new(BackupService(Arc::clone(&state))))
            .add_service(BootstrapKeysServer::new(BootstrapKeyService(Arc::clone(&state))))
            .add_service(ClockServer::new(ClockService(Arc::clone(&state))))
            .add_service(health)
            .add_service(v1)
            .add_service(v1alpha);
        let strangers = with_services(common.clone(), &state, MAX_OPEN_REQUEST);
        let members = with_services(common, &state, MAX_REQUEST);
        let gate = GateLayer(Arc::new(Gate::new(Arc::clone(&state), admin_ids)));
        Ok(Self { state, members, strangers, gate })
    }

    /// Serves both endpoints until `shutdown`, then lets the calls in flight finish.
    ///
    /// # Errors
    /// [`ServerError::Tls`] or [`ServerError::Serve`].
    pub async fn serve(
        self,
        endpoints: Endpoints,
        vital: Tasks,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        let running = TaskTracker::new();
        let handshakes = Handshakes::new(&self.state).map_err(ServerError::Tls)?;
        let door = listen::Door::new(self.state, handshakes);
        let remote = door.incoming(endpoints.tcp, &vital, running.clone(), shutdown.clone());
        let local = listen::local_incoming(endpoints.local);
        let strangers = Server::builder()
            .timeout(STRANGERS_CALL)
            .max_concurrent_streams(STRANGERS_STREAMS)
            .initial_stream_window_size(STRANGERS_WINDOW)
            .initial_connection_window_size(STRANGERS_WINDOW)
            .http2_max_header_list_size(STRANGERS_HEADERS)
            .layer(self.gate.clone())
            .add_routes(self.strangers)
            .serve_with_incoming_shutdown(remote.strangers, shutdown.clone().cancelled_owned());
        let members = server()
            .timeout(CALL)
            .max_connection_age(MAX_CONNECTION_AGE)
            .layer(self.gate.clone())
            .add_routes(self.members.clone())
            .serve_with_incoming_shutdown(remote.members, shutdown.clone().cancelled_owned());
        let local = server()
            .layer(self.gate)
            .add_routes(self.members)
            .serve_with_incoming_shutdown(local, shutdown.cancelled_owned());
        tokio::try_join!(members, strangers, local)?;
        running.close();
        running.wait().await;
        Ok(())
    }
}

/// Adds the services whose requests have at most `most` bytes.
fn with_services(routes: Routes, state: &Arc<State>, most: usize) -> Routes {
    let agent = AgentServer::new(AgentService(Arc::clone(state)));
    let tokens = JoinTokensServer::new(JoinTokenService(Arc::clone(state)));
    routes
        .add_service(agent.max_decoding_message_size(MAX_AGENT_REQUEST))
        .add_service(BundleServer::new(BundleService(Arc::clone(state))).max_decoding_message_size(most))
        .add_service(EntryServer::new(EntryService(Arc::clone(state))).max_decoding_message_size(most))
        .add_service(SvidServer::new(SvidService(Arc::clone(state))).max_decoding_message_size(most))
        .add_service(tokens.max_decoding_message_size(most))
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
}
