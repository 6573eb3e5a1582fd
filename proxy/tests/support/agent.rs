//! A real Workload API server on a Unix socket that a test drives: give, rotate, deny, stop.

use std::{path::PathBuf, pin::Pin};

use futures_util::{Stream, StreamExt};
use svidecar_api::{
    WORKLOAD_API_HEADER,
    transport::uds,
    workload::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
        ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse,
        X509svidRequest, X509svidResponse,
        spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
    },
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};

/// What the agent answers.
#[derive(Clone)]
pub enum Says {
    Denied,
    Unavailable,
    Gives(X509svidResponse),
}

pub struct Agent {
    says: watch::Sender<Says>,
    socket: PathBuf,
    server: Option<(JoinHandle<()>, CancellationToken)>,
    _directory: tempfile::TempDir,
}

#[derive(Clone)]
struct Service {
    says: watch::Receiver<Says>,
    /// Ends the streams, which tonic would let live on.
    ends: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Agent {
    pub async fn start(says: Says) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let mut agent = Self { says: watch::Sender::new(says), socket, server: None, _directory: directory };
        agent.restart().await;
        agent
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn says(&self, says: Says) {
        self.says.send_replace(says);
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
        let service = Service { says: self.says.subscribe(), ends: ends.clone() };
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

impl Service {
    /// One message for each change, until the agent says no.
    fn stream<T: Send + 'static>(
        &self,
        message: impl Fn(X509svidResponse) -> T + Send + 'static,
    ) -> Result<Response<Answers<T>>, Status> {
        let refusal = |says: &Says| match says {
            Says::Denied => Some(Status::permission_denied("no identity issued")),
            Says::Unavailable => Some(Status::unavailable("starting")),
            Says::Gives(_) => None,
        };
        if let Some(status) = refusal(&self.says.borrow()) {
            return Err(status);
        }
        let stream = WatchStream::new(self.says.clone()).map(move |says| match says {
            Says::Gives(response) => Ok(message(response)),
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
        self.stream(|response| response)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        check_header(&request)?;
        self.stream(|response| {
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
        Err(Status::unavailable("no token keys in this test"))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        check_header(&request)?;
        Err(Status::invalid_argument("the token is not valid"))
    }
}
