//! Calls of the Workload API (SPIFFE Workload API §5 and §6). Speaks the protocol and keeps nothing: what it gives are
//! the messages as they came.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use hyper_util::rt::TokioIo;
use svidecar_api::{
    WAIT_FOR_AGENT, WAIT_FOR_ENTRY, WAIT_HEADER, WORKLOAD_API_HEADER,
    transport::{ConnectError, Endpoint, uds},
    workload::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, ValidateJwtsvidRequest,
        ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
        spiffe_workload_api_client::SpiffeWorkloadApiClient,
    },
};
use tokio::net::TcpStream;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint as TonicEndpoint, Error as TransportError},
};
use tower::service_fn;

/// For one unary call; a stream has no end.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// For the first byte of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer that is read: the bundles of a very large federation.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Why the Workload API cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no TCP connection.
    #[error("cannot connect to the Workload API at {address}: {error}")]
    ConnectTcp {
        /// The address.
        address: SocketAddr,
        /// What the transport says.
        error: TransportError,
    },
    /// It did not answer in time.
    #[error("the Workload API did not answer within {0:?}")]
    Timeout(Duration),
    /// It answered with a status.
    #[error("the Workload API answered {:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Opens a channel to an endpoint, whatever is served there. How long to wait is for the caller to say.
///
/// # Errors
/// Why there is no connection, told apart by what an operator has to do.
pub async fn dial(endpoint: &Endpoint) -> Result<Channel, ClientError> {
    match endpoint {
        Endpoint::Unix(path) => Ok(uds::connect(path).await?),
        Endpoint::Usual(usual) => Ok(uds::connect_to_usual(usual).await?),
        Endpoint::Tcp(address) => {
            let address = *address;
            let connector =
                service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
            TonicEndpoint::from_static("http://localhost")
                .connect_with_connector(connector)
                .await
                .map_err(|error| ClientError::ConnectTcp { address, error })
        }
    }
}

/// A connection, good for any number of calls. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    api: SpiffeWorkloadApiClient<Channel>,
    /// For each unary call; none where the user bounds the whole.
    limit: Option<Duration>,
    /// What streams are asked to wait for.
    waits: WaitFor,
}

/// What an agent of ours may wait for before it answers. Any other agent answers at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// For nothing.
    #[default]
    Nothing,
    /// Until it can answer.
    Agent,
    /// That, and until there is an entry.
    Entry,
}

impl Client {
    /// Connects; neither that nor a unary call takes longer than some seconds.
    ///
    /// # Errors
    /// As [`dial`], or when nobody answers.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let channel = within(CONNECT_TIMEOUT, dial(endpoint)).await?;
        Ok(Self { limit: Some(CALL_TIMEOUT), ..Self::over(channel) })
    }

    /// Over a channel that is there, for a user who bounds the waits himself.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        let api = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        Self { api, limit: None, waits: WaitFor::Nothing }
    }

    /// Lets streams of X.509 wait until there is something to say.
    #[must_use]
    pub(crate) const fn waiting(mut self, waits: WaitFor) -> Self {
        self.waits = waits;
        self
    }

    fn stream<T>(&self, message: T) -> Request<T> {
        let mut request = request(message);
        let value = match self.waits {
            WaitFor::Nothing => return request,
            WaitFor::Agent => WAIT_FOR_AGENT,
            WaitFor::Entry => WAIT_FOR_ENTRY,
        };
        request.metadata_mut().insert(WAIT_HEADER, MetadataValue::from_static(value));
        request
    }

    /// Our identities, now and at each change; each message is the whole state (H13).
    ///
    /// # Errors
    /// As the agent says.
    pub async fn x509_svids(&self) -> Result<Streaming<X509svidResponse>, Status> {
        let mut api = self.api.clone();
        api.fetch_x509svid(self.stream(X509svidRequest {})).await.map(Response::into_inner)
    }

    /// The roots of all trust domains that we may know, now and at each change.
    ///
    /// # Errors
    /// As the agent says.
    pub async fn x509_bundles(&self) -> Result<Streaming<X509BundlesResponse>, Status> {
        let mut api = self.api.clone();
        api.fetch_x509_bundles(self.stream(X509BundlesRequest {})).await.map(Response::into_inner)
    }

    /// The token keys of all trust domains that we may know, now and at each change.
    ///
    /// # Errors
    /// As the agent says.
    pub async fn jwt_bundles(&self) -> Result<Streaming<JwtBundlesResponse>, Status> {
        let mut api = self.api.clone();
        api.fetch_jwt_bundles(request(JwtBundlesRequest {})).await.map(Response::into_inner)
    }

    /// The token keys of now, each a JWK set, by the ID of the trust domain.
    ///
    /// # Errors
    /// As the agent says.
    pub async fn fetch_jwt_bundles(&self) -> Result<HashMap<String, Vec<u8>>, ClientError> {
        let mut stream = self.bounded(self.jwt_bundles()).await?;
        let first = self.bounded(stream.message()).await?;
        Ok(first.map(|message| message.bundles).unwrap_or_default())
    }

    /// A JWT-SVID of each of our identities for this audience, or of one, by its ID.
    ///
    /// # Errors
    /// As the agent says.
    pub async fn fetch_jwt_svids(
        &self,
        audience: Vec<String>,
        spiffe_id: Option<String>,
    ) -> Result<Vec<Jwtsvid>, ClientError> {
        let message = JwtsvidRequest { audience, spiffe_id: spiffe_id.unwrap_or_default() };
        let mut api = self.api.clone();
        Ok(self.bounded(api.fetch_jwtsvid(request(message))).await?.into_inner().svids)
    }

    /// Has the agent validate a JWT-SVID (I16).
    ///
    /// # Errors
    /// As the agent says: `InvalidArgument` for a token that is not valid.
    pub async fn validate_jwt_svid(
        &self,
        audience: String,
        svid: String,
    ) -> Result<ValidateJwtsvidResponse, ClientError> {
        let mut api = self.api.clone();
        let call = api.validate_jwtsvid(request(ValidateJwtsvidRequest { audience, svid }));
        Ok(self.bounded(call).await?.into_inner())
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, ClientError> {
        let call = async { Ok(call.await?) };
        match self.limit {
            Some(limit) => within(limit, call).await,
            None => call.await,
        }
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(limit, call).await.map_err(|_| ClientError::Timeout(limit))?
}

/// A request with the header that every call must carry (I1).
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(WORKLOAD_API_HEADER, MetadataValue::from_static("true"));
    request
}
