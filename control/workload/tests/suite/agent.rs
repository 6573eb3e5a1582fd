//! A real Workload API server on a Unix socket that a test drives: give, rotate, deny, stop.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::{Stream, StreamExt, stream};
use svidecar_api::{
    WAIT_FOR_ENTRY, WAIT_HEADER, WORKLOAD_API_HEADER,
    transport::{Endpoint, uds},
    workload::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
        ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse,
        X509svidRequest, X509svidResponse,
        spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
    },
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, transport::Server};

/// What the agent answers.
#[derive(Clone)]
pub enum Says {
    Denied,
    Unavailable,
    Refuses(Code, &'static str),
    Gives(X509svidResponse),
    /// And ends the stream.
    GivesAndEnds(X509svidResponse),
}

pub struct Agent {
    /// Streams of identities that wait, so far.
    waiting: watch::Sender<usize>,
    /// Whether it keeps streams open that ask to wait, as ours does.
    pub is_ours: bool,
    says: watch::Sender<Says>,
    token_keys: TokenKeys,
    socket: PathBuf,
    server: Option<(JoinHandle<()>, CancellationToken)>,
    _directory: tempfile::TempDir,
}

/// JWK sets by trust domain, if the agent has any.
type TokenKeys = Arc<Mutex<Option<HashMap<String, Vec<u8>>>>>;

#[derive(Clone)]
struct Service {
    waiting: watch::Sender<usize>,
    is_ours: bool,
    says: watch::Receiver<Says>,
    token_keys: TokenKeys,
    /// Ends the streams, which tonic would let live on.
    ends: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Agent {
    pub async fn start(says: Says) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let mut agent = Self {
            waiting: watch::Sender::new(0),
            is_ours: false,
            says: watch::Sender::new(says),
            token_keys: TokenKeys::default(),
            socket,
            server: None,
            _directory: directory,
        };
        agent.restart().await;
        agent
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket.clone())
    }

    pub fn says(&self, says: Says) {
        self.says.send_replace(says);
    }

    /// Waits until a stream is kept open.
    pub async fn has_waiting(&self) {
        self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.unwrap();
    }

    pub fn has_token_keys(&self, bundles: HashMap<String, Vec<u8>>) {
        *self.token_keys.lock().unwrap() = Some(bundles);
    }

    /// Serves the same on TCP, until the test ends.
    pub async fn on_tcp(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = SpiffeWorkloadApiServer::new(self.service(CancellationToken::new()));
        let serving =
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { serving.await.unwrap() });
        address
    }

    fn service(&self, ends: CancellationToken) -> Service {
        let (says, token_keys) = (self.says.subscribe(), Arc::clone(&self.token_keys));
        Service { waiting: self.waiting.clone(), is_ours: self.is_ours, says, token_keys, ends }
    }

    /// Ends the process, so to speak: streams break and the socket is gone.
    pub async fn stop(&mut self) {
        if let Some((server, ends)) = self.server.take() {
            ends.cancel();
            server.abort();
            let _ = server.await;
        }
    }

    pub async fn restart(&mut self) {
        let listener = uds::Listener::bind(&self.socket, 0o600, 0o700).await.unwrap();
        let ends = CancellationToken::new();
        let service = self.service(ends.clone());
        let serving = Server::builder()
            .add_service(SpiffeWorkloadApiServer::new(service))
            .serve_with_incoming(listener.incoming());
        self.server = Some((tokio::spawn(async move { serving.await.unwrap() }), ends));
    }
}

fn check_header<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get(WORKLOAD_API_HEADER).map(|value| value.as_bytes()) {
        Some(b"true") => Ok(()),
        _ => Err(Status::invalid_argument("security header missing")),
    }
}

fn waits<T>(request: &Request<T>) -> bool {
    request.metadata().get(WAIT_HEADER).is_some_and(|value| value == WAIT_FOR_ENTRY)
}

impl Service {
    /// One message for each change, until the agent says no.
    fn stream<T: Send + 'static>(
        &self,
        waits: bool,
        message: impl Fn(X509svidResponse) -> T + Send + 'static,
    ) -> Result<Response<Answers<T>>, Status> {
        let refusal = |says: &Says| match says {
            Says::Denied => Some(Status::permission_denied("no identity issued")),
            Says::Unavailable => Some(Status::unavailable("starting")),
            Says::Refuses(code, message) => Some(Status::new(*code, *message)),
            Says::Gives(_) | Says::GivesAndEnds(_) => None,
        };
        let waits = waits && self.is_ours;
        match refusal(&self.says.borrow()) {
            Some(status) if !waits => return Err(status),
            Some(_) => self.waiting.send_modify(|waiting| *waiting += 1),
            None => {}
        }
        let most = if matches!(*self.says.borrow(), Says::GivesAndEnds(_)) { 1 } else { usize::MAX };
        let says = WatchStream::new(self.says.clone())
            .skip_while(move |says| std::future::ready(waits && refusal(says).is_some()));
        let stream = says.take(most).map(move |says| match says {
            Says::Gives(response) | Says::GivesAndEnds(response) => Ok(message(response)),
            other => Err(refusal(&other).unwrap()),
        });
        Ok(Response::new(Box::pin(stream.take_until(self.ends.clone().cancelled_owned()))))
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        check_header(&request)?;
        self.stream(waits(&request), |response| response)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        check_header(&request)?;
        self.stream(waits(&request), |response| {
            let mut bundles = response.federated_bundles;
            for svid in response.svids {
                let own = svid.spiffe_id.split('/').take(3).collect::<Vec<_>>().join("/");
                bundles.insert(own, svid.bundle);
            }
            X509BundlesResponse { crl: Vec::new(), bundles }
        })
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        check_header(&request)?;
        let request = request.into_inner();
        let svid = format!("token for {}", request.audience.join(","));
        let spiffe_id = request.spiffe_id;
        Ok(Response::new(JwtsvidResponse { svids: vec![Jwtsvid { spiffe_id, svid, hint: String::new() }] }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        check_header(&request)?;
        let bundles = self.token_keys.lock().unwrap().clone();
        let bundles = bundles.ok_or_else(|| Status::unavailable("no token keys in this test"))?;
        let first = stream::iter([Ok(JwtBundlesResponse { bundles })]);
        Ok(Response::new(Box::pin(first.chain(stream::pending()))))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        check_header(&request)?;
        Err(Status::invalid_argument("the token is not valid"))
    }
}
