//! The sockets: the Workload API for everyone on this node, the admin API for its operator.
//!
//! Owns listening, pinning callers as they connect, and serving. What is served is in the modules below.

pub mod admin;
pub mod callers;
mod connection;
mod gate;
pub mod http;
pub mod quota;
mod stream;
mod witness;
pub mod workload_api;

use std::{net::SocketAddr, path::Path};

use futures_util::{Stream, StreamExt as _};
use svidecar_api::{
    AGENT_ADMIN_FILE_DESCRIPTOR_SET,
    svidecar::agent::v1::admin_server::AdminServer,
    transport::uds,
    workload::{self, spiffe_workload_api_server::SpiffeWorkloadApiServer},
};
use svidecar_process::accept::{self, Comes};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::interceptor::InterceptedService, transport::Server};
use tonic_health::pb::{FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTOR_SET, health_server::Health};

pub use connection::Connection;
pub use quota::{CallerInfo, Quota};

use crate::error::AgentError;
use admin::AdminApi;
use gate::GateLayer;
use workload_api::WorkloadApi;

/// Anyone on the node may connect; who gets what is decided per process.
const WORKLOAD_SOCKET_MODE: u32 = 0o777;
const WORKLOAD_DIRECTORY_MODE: u32 = 0o755;

/// For our own user only.
const ADMIN_SOCKET_MODE: u32 = 0o600;
const ADMIN_DIRECTORY_MODE: u32 = 0o700;

/// Calls that one connection may have open; a workload needs a handful.
const STREAMS_PER_CONNECTION: u32 = 128;

/// Who comes to the Workload API.
const WORKLOADS: Comes = Comes::Anybody { whose: "workload" };

/// Bytes that a connection may send before they are read, the least that HTTP/2 knows; and the largest head of a call.
const RECEIVE_WINDOW: u32 = 65_535;
const MAX_HEAD: u32 = 16 * 1024;

/// TCP callers whose process is looked for at the same time.
const PINNING_AT_ONCE: usize = 16;

/// Listens on the workloads' socket.
///
/// # Errors
/// [`AgentError::Listen`] with what to do.
pub async fn bind_workload(path: &Path) -> Result<uds::Listener, AgentError> {
    let listener = bind(path, WORKLOAD_SOCKET_MODE, WORKLOAD_DIRECTORY_MODE).await?;
    // What is accepted inherits it, so that no byte comes without its writer.
    rustix::net::sockopt::set_socket_passcred(&listener, true).map_err(|error| AgentError::Listen {
        address: path.display().to_string(),
        reason: format!("the kernel does not say who writes on a Unix socket: {error}"),
    })?;
    Ok(listener)
}

/// Listens on the operator's socket.
///
/// # Errors
/// [`AgentError::Listen`] with what to do.
pub async fn bind_admin(path: &Path) -> Result<uds::Listener, AgentError> {
    bind(path, ADMIN_SOCKET_MODE, ADMIN_DIRECTORY_MODE).await
}

async fn bind(path: &Path, mode: u32, directory_mode: u32) -> Result<uds::Listener, AgentError> {
    uds::Listener::bind(path, mode, directory_mode).await.map_err(|error| AgentError::Listen {
        address: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// Listens on loopback TCP.
///
/// # Errors
/// [`AgentError::Listen`], also for an address that is not on loopback.
pub async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, AgentError> {
    let failed = |reason: String| AgentError::Listen { address: address.to_string(), reason };
    if !address.ip().is_loopback() {
        return Err(failed("the Workload API over TCP serves this host only; use a loopback address".into()));
    }
    TcpListener::bind(address).await.map_err(|error| failed(error.to_string()))
}

/// Serves the Workload API on a Unix socket until shutdown.
///
/// # Errors
/// When the transport fails.
pub async fn serve_workload_uds<H: Health>(
    listener: uds::Listener,
    api: WorkloadApi,
    health: tonic_health::pb::health_server::HealthServer<H>,
    quota: Quota,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let listener = listener.keeping(|stream| WORKLOADS.keep(stream));
    let incoming = listener.incoming().map(move |stream| Ok(Connection::of_unix(stream?, &quota)));
    serve_workload(incoming, api, health, shutdown).await
}

/// Serves the Workload API on loopback TCP until shutdown.
///
/// # Errors
/// When the transport fails.
pub async fn serve_workload_tcp<H: Health>(
    listener: TcpListener,
    api: WorkloadApi,
    health: tonic_health::pb::health_server::HealthServer<H>,
    quota: Quota,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let accepted = futures_util::stream::unfold(listener, |listener| async move {
        let (stream, _) = accept::tcp(&listener, WORKLOADS).await;
        Some((stream, listener))
    });
    let incoming = accepted
        .map(move |stream| {
            let quota = quota.clone();
            async move { Ok(Connection::of_tcp(stream, &quota).await) }
        })
        .buffer_unordered(PINNING_AT_ONCE);
    serve_workload(incoming, api, health, shutdown).await
}

async fn serve_workload<H: Health>(
    incoming: impl Stream<Item = std::io::Result<Connection>>,
    api: WorkloadApi,
    health: tonic_health::pb::health_server::HealthServer<H>,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(workload::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(HEALTH_DESCRIPTOR_SET)
    };
    let mut router = Server::builder()
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .initial_stream_window_size(Some(RECEIVE_WINDOW))
        .initial_connection_window_size(Some(RECEIVE_WINDOW))
        .http2_max_header_list_size(Some(MAX_HEAD))
        .layer(GateLayer)
        .add_service(InterceptedService::new(
            SpiffeWorkloadApiServer::new(api).max_decoding_message_size(quota::MAX_REQUEST),
            workload_api::check_header,
        ))
        .add_service(health);
    // The descriptors are ours and sound; without them only reflection would be missing.
    if let (Ok(v1), Ok(v1alpha)) = (reflection().build_v1(), reflection().build_v1alpha()) {
        router = router.add_service(v1).add_service(v1alpha);
    }
    router.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await
}

/// Serves the admin API until shutdown.
///
/// # Errors
/// When the transport fails.
pub async fn serve_admin(
    listener: uds::Listener,
    api: AdminApi,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let mut router = Server::builder().add_service(AdminServer::new(api));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(AGENT_ADMIN_FILE_DESCRIPTOR_SET)
        .build_v1();
    if let Ok(reflection) = reflection {
        router = router.add_service(reflection);
    }
    router.serve_with_incoming_shutdown(listener.incoming(), shutdown.cancelled_owned()).await
}
