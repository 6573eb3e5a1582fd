//! A server and its agents in one process, each as its program runs it, on real sockets and with real TLS.
//!
//! Owns starting, stopping and losing them. It must never look into either: what a test wants to know it asks as an
//! administrator or as a workload.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use svidecar_agent::{error::AgentError, run};
use svidecar_api::{
    WORKLOAD_API_HEADER,
    spire::api::{
        server::{
            agent::v1::{CreateJoinTokenRequest, agent_client::AgentClient},
            entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient},
        },
        types,
    },
    svidecar::agent::v1::{GetStatusRequest, GetStatusResponse, admin_client::AdminClient},
    transport::uds,
    workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use svidecar_config::{agent::AgentSettings, server::ServerSettings};
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::{Clock, clock, testing::captured};
use svidecar_server::run::Server;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

/// No step of a test takes so long; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fails a test that waits for what does not come.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen in time")
}

/// A server's machine: its disk outlives it.
pub struct Domain {
    home: TempDir,
    /// As the server will be started next.
    pub settings: ServerSettings,
    ahead: Arc<AtomicI64>,
    running: Option<(Server, CancellationToken)>,
}

impl Domain {
    /// A server whose clock is `ago` behind.
    pub async fn start_ago(ago: Duration, change: impl FnOnce(&mut ServerSettings)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let trust_domain = TrustDomain::parse("demo.org").unwrap();
        let mut settings = ServerSettings::new(trust_domain, home.path().join("server"));
        settings.bind_port = 0;
        settings.socket_path = home.path().join("run/api.sock");
        change(&mut settings);
        let ahead = Arc::new(AtomicI64::new(-i64::try_from(ago.as_secs()).unwrap()));
        let mut domain = Self { home, settings, ahead, running: None };
        domain.start().await;
        domain
    }

    /// A server that shows the right time.
    pub async fn new() -> Self {
        Self::start_ago(Duration::ZERO, |_| {}).await
    }

    /// Starts the server, on the port that it had.
    pub async fn start(&mut self) {
        let ahead = Arc::clone(&self.ahead);
        let clock = Clock::from_fn(move || {
            let ahead = ahead.load(Ordering::Relaxed);
            let by = Duration::from_secs(ahead.unsigned_abs());
            if ahead < 0 { clock::wall() - by } else { clock::wall() + by }
        });
        let shutdown = CancellationToken::new();
        let server = Server::start(self.settings.clone(), clock, None, shutdown.clone()).await.unwrap();
        self.settings.bind_port = server.address.port();
        self.running = Some((server, shutdown));
    }

    /// Stops the server; everything it does is done when this returns.
    pub async fn stop(&mut self) {
        let (server, shutdown) = self.running.take().unwrap();
        shutdown.cancel();
        server.wait().await.unwrap();
    }

    /// Lets the server's clock go on.
    pub fn pass(&self, time: Duration) {
        self.ahead.fetch_add(i64::try_from(time.as_secs()).unwrap(), Ordering::Relaxed);
    }

    /// A path on this machine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A connection to the administrators' socket.
    pub async fn admin(&self) -> Channel {
        uds::connect(&self.settings.socket_path).await.unwrap()
    }

    /// Runs a command of `svidecar-server` that asks the running server; else what it says.
    pub async fn cli(&self, arguments: &[&str]) -> Result<(), String> {
        let socket = self.settings.socket_path.to_str().unwrap().to_owned();
        Self::run(arguments, &["--socket-path".to_owned(), socket]).await
    }

    /// Runs a command that needs the settings and no server.
    pub async fn offline(&self, arguments: &[&str]) -> Result<(), String> {
        let home = self.settings.data_dir.to_str().unwrap().to_owned();
        let trust_domain = self.settings.trust_domain.to_string();
        let settings = ["--trust-domain".to_owned(), trust_domain, "--data-dir".to_owned(), home];
        Self::run(arguments, &settings).await
    }

    async fn run(arguments: &[&str], more: &[String]) -> Result<(), String> {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).chain(more.iter().cloned());
        let line: Vec<OsString> =
            ["svidecar-server".to_owned()].into_iter().chain(arguments).map(Into::into).collect();
        // It has a runtime of its own.
        let ran = tokio::task::spawn_blocking(move || {
            let (mut console, seen) = captured();
            let code = svidecar_server::cli::run(line, &mut console);
            drop(console);
            if code == ExitCode::SUCCESS { Ok(()) } else { Err(seen.err()) }
        });
        ran.await.unwrap()
    }

    /// A join token as it is handed out.
    pub async fn token(&self, life: Duration) -> String {
        let ttl = i32::try_from(life.as_secs()).unwrap();
        let request = CreateJoinTokenRequest { ttl, token: String::new(), agent_id: None };
        AgentClient::new(self.admin().await).create_join_token(request).await.unwrap().into_inner().value
    }

    /// Registers workloads of this process's user below an agent.
    pub async fn register(&self, id: &str, parent: &str) {
        let field = |id: &str| Some((&SpiffeId::parse(id).unwrap()).into());
        let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
        let entry = types::Entry {
            spiffe_id: field(id),
            parent_id: field(parent),
            selectors: vec![types::Selector { r#type: "unix".into(), value: format!("uid:{uid}") }],
            ..types::Entry::default()
        };
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let created = EntryClient::new(self.admin().await).batch_create_entry(request).await.unwrap();
        assert_eq!(created.into_inner().results.remove(0).status.unwrap().code, 0);
    }

    /// Settings of an agent of that name that joins by this token.
    pub fn agent(&self, name: &str, token: &str) -> AgentSettings {
        let home = self.path(name);
        std::fs::create_dir_all(&home).unwrap();
        let file = home.join("token");
        write_secret(&file, token);
        let mut settings =
            AgentSettings::new(self.settings.trust_domain.clone(), "127.0.0.1", home.join("data"));
        settings.server_port = self.settings.bind_port;
        settings.socket_path = home.join("public/api.sock");
        settings.join_token_file = Some(file);
        settings
    }
}

/// Writes a file that its owner alone may read.
pub fn write_secret(path: &Path, text: &str) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Waits for a moment of the wall clock, in Unix seconds, to be over.
async fn wait_for(end: i64) {
    let end = UNIX_EPOCH + Duration::from_secs(end.unsigned_abs() + 1);
    while let Ok(left) = end.duration_since(clock::wall()) {
        tokio::time::sleep(left + Duration::from_millis(1)).await;
    }
}

/// An agent that runs.
pub struct Agent {
    socket: PathBuf,
    admin: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    /// Starts one.
    pub fn start(settings: AgentSettings) -> Self {
        let (socket, admin) = (settings.socket_path.clone(), settings.admin_socket());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run::run(settings, || (), async move {
            let _ = stopped.await;
        }));
        Self { socket, admin, stop: Some(stop), task }
    }

    async fn channel(path: &Path) -> Channel {
        soon(async {
            loop {
                match uds::connect(path).await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }

    /// How it says that it is, once `wanted` is true of that.
    pub async fn status(&self, wanted: impl Fn(&GetStatusResponse) -> bool) -> GetStatusResponse {
        let mut client = AdminClient::new(Self::channel(&self.admin).await);
        soon(async {
            loop {
                if let Ok(status) = client.get_status(GetStatusRequest {}).await
                    && wanted(status.get_ref())
                {
                    return status.into_inner();
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Waits until it has an identity and its server, and says who it is.
    pub async fn in_sync(&self) -> String {
        self.status(|status| !status.agent_id.is_empty() && status.server_connected).await.agent_id
    }

    /// Waits until the SVID that it has now has ended, renewed or not.
    pub async fn svid_ended(&self) {
        let end = self.status(|status| status.svid_expires_at > 0).await.svid_expires_at;
        wait_for(end).await;
    }

    /// Stops it, and waits until the SVID that it had has ended.
    pub async fn svid_ends_while_off(self) {
        let end = self.status(|status| status.svid_expires_at > 0).await.svid_expires_at;
        self.stop().await;
        // It may have been renewed in between.
        wait_for(end + 3).await;
    }

    /// Waits until this process gets just these identities from it.
    pub async fn serves(&self, ids: &[&str]) {
        self.fetched(|message| {
            message.svids.iter().map(|svid| svid.spiffe_id.as_str()).eq(ids.iter().copied())
        })
        .await;
    }

    /// Waits until `wanted` is true of the first SVID that this process gets.
    pub async fn leaf(&self, wanted: impl Fn(Vec<u8>) -> bool) {
        self.fetched(|message| message.svids.first().is_some_and(|svid| wanted(svid.x509_svid.clone())))
            .await;
    }

    async fn fetched(&self, wanted: impl Fn(&X509svidResponse) -> bool) {
        let mut client = SpiffeWorkloadApiClient::new(Self::channel(&self.socket).await);
        soon(async {
            loop {
                let mut request = Request::new(X509svidRequest {});
                request.metadata_mut().insert(WORKLOAD_API_HEADER, MetadataValue::from_static("true"));
                let Ok(stream) = client.fetch_x509svid(request).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let mut stream = stream.into_inner();
                while let Ok(Some(message)) = stream.message().await {
                    if wanted(&message) {
                        return;
                    }
                }
            }
        })
        .await;
    }

    /// Stops it.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        soon(&mut self.task).await.unwrap().unwrap();
    }

    /// Waits for it to end by itself.
    pub async fn ended(self) -> AgentError {
        soon(self.task).await.unwrap().unwrap_err()
    }
}
