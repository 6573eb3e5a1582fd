//! An agent under test, and a workload that talks to it: this process.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use svidecar_agent::{error::AgentError, run};
use svidecar_api::{
    WORKLOAD_API_HEADER,
    svidecar::agent::v1::admin_client::AdminClient,
    transport::uds,
    workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use svidecar_config::{agent::AgentSettings, secret::Secret};
use svidecar_process::testing::Hands;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

use crate::server::{Server, TOKEN, World, trust_domain};

/// No step of a test takes so long; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fails a test that waits for what does not come.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen in time")
}

/// The selector that an entry for this process uses.
pub fn my_uid() -> String {
    format!("unix:uid:{}", nix::unistd::geteuid())
}

/// A server, and a directory for agents.
pub struct Bed {
    pub world: Arc<World>,
    pub dir: tempfile::TempDir,
    pub port: u16,
    /// Of the agents' clock.
    pub hands: Hands,
    server: Option<Server>,
}

impl Bed {
    pub fn new(push: bool) -> Self {
        let world = World::new(push);
        let server = Server::start(&world, 0);
        let port = server.address.port();
        Self { world, dir: tempfile::tempdir().unwrap(), port, hands: Hands::running(), server: Some(server) }
    }

    pub async fn stop_server(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    pub fn start_server(&mut self) {
        self.server = Some(Server::start(&self.world, self.port));
    }

    /// Settings with a pinned token; times are short where a test would wait for them.
    pub fn settings(&self) -> AgentSettings {
        let data = self.dir.path().join("data");
        let mut settings = AgentSettings::new(trust_domain(), "127.0.0.1", data);
        settings.server_port = self.port;
        settings.socket_path = self.dir.path().join("public/api.sock");
        settings.join_token = Some(secret(&format!("{TOKEN}.{}", self.world.pin())));
        settings.sync_interval = Duration::from_secs(3600).into();
        settings
    }

    pub fn start(&self, settings: AgentSettings) -> Agent {
        let socket = settings.socket_path.clone();
        let admin = settings.admin_socket();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run::run_by(self.hands.clock(), settings, || (), async move {
            let _ = stopped.await;
        }));
        Agent { socket, admin, stop: Some(stop), task }
    }

    pub async fn agent(&self) -> Agent {
        let agent = self.start(self.settings());
        agent.ready().await;
        agent
    }
}

pub fn secret(text: &str) -> Secret {
    serde_json::from_value(text.into()).unwrap()
}

/// Writes a token as its owner's secret.
pub fn write_token(path: &Path, token: impl AsRef<[u8]>) {
    std::fs::write(path, token).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A running agent.
pub struct Agent {
    socket: PathBuf,
    admin: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<Result<(), AgentError>>,
}

pub type Client = SpiffeWorkloadApiClient<Channel>;

impl Agent {
    /// A channel to its public socket, as soon as that is there.
    pub async fn channel(&self) -> Channel {
        soon(async {
            loop {
                match uds::connect(&self.socket).await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }

    pub async fn client(&self) -> Client {
        Client::new(self.channel().await)
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(uds::connect_to_ours(&self.admin).await.unwrap())
    }

    /// Waits until it is attested.
    pub async fn ready(&self) {
        use tonic_health::pb::{
            HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
        };
        let mut health = HealthClient::new(self.channel().await);
        let mut states = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        soon(async { while states.message().await.unwrap().unwrap().status() != ServingStatus::Serving {} })
            .await;
    }

    pub async fn fetch(&self) -> Result<Streaming<X509svidResponse>, Status> {
        soon(self.client().await.fetch_x509svid(request(X509svidRequest {})))
            .await
            .map(tonic::Response::into_inner)
    }

    pub async fn fetch_when_ready(&self) -> Streaming<X509svidResponse> {
        self.ready().await;
        self.fetch().await.unwrap()
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        soon(&mut self.task).await.unwrap().unwrap();
    }

    /// Waits for it to end by itself.
    pub async fn ended(self) -> AgentError {
        soon(self.task).await.unwrap().unwrap_err()
    }
}

/// A request with the required header.
pub fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(WORKLOAD_API_HEADER, MetadataValue::from_static("true"));
    request
}

pub async fn next(stream: &mut Streaming<X509svidResponse>) -> X509svidResponse {
    soon(stream.message()).await.unwrap().unwrap()
}

pub fn ids(response: &X509svidResponse) -> Vec<&str> {
    response.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}
