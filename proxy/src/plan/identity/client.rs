//! Calls of the Workload API (SPIFFE Workload API §5 and §6). Speaks the protocol and keeps nothing.

use std::{collections::HashMap, time::Duration};

use hyper_util::rt::TokioIo;
use svidecar_api::{
    WORKLOAD_API_HEADER,
    transport::{ConnectError, Endpoint, uds},
    workload::{
        JwtBundlesRequest, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse,
        spiffe_workload_api_client::SpiffeWorkloadApiClient,
    },
};
use tokio::net::TcpStream;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint as TonicEndpoint},
};
use tower::service_fn;

/// For one unary call; a stream has no end.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// For the first byte of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the Workload API cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no TCP connection.
    #[error("cannot connect to the Workload API at {address}: {reason}")]
    ConnectTcp {
        /// The address.
        address: String,
        /// What the transport says.
        reason: String,
    },
    /// It did not answer in time.
    #[error("the Workload API did not answer within {0:?}")]
    Timeout(Duration),
    /// It answered with a status.
    #[error("{}", describe(.0))]
    Status(Box<Status>),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// A generated client over any transport.
pub type Client = SpiffeWorkloadApiClient<Channel>;

/// Connects once; the channel is good for any number of calls.
///
/// # Errors
/// Why there is no connection, told apart by what an operator has to do.
pub async fn connect(endpoint: &Endpoint) -> Result<Client, ClientError> {
    let connecting = async {
        match endpoint {
            Endpoint::Unix(path) => uds::connect(path).await.map_err(ClientError::from),
            Endpoint::Tcp(address) => {
                let address = *address;
                let connector =
                    service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
                TonicEndpoint::from_static("http://localhost")
                    .connect_with_connector(connector)
                    .await
                    .map_err(|error| ClientError::ConnectTcp {
                        address: address.to_string(),
                        reason: error.to_string(),
                    })
            }
        }
    };
    let channel = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| ClientError::Timeout(CONNECT_TIMEOUT))??;
    Ok(SpiffeWorkloadApiClient::new(channel))
}

/// A request with the header that every call must carry (I1).
pub fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(WORKLOAD_API_HEADER, MetadataValue::from_static("true"));
    request
}

/// Fetches a JWT-SVID for each of our identities, or for one.
///
/// # Errors
/// As the agent says.
pub async fn fetch_jwt(
    endpoint: &Endpoint,
    audience: Vec<String>,
    spiffe_id: String,
) -> Result<JwtsvidResponse, ClientError> {
    let mut client = connect(endpoint).await?;
    let call = client.fetch_jwtsvid(request(JwtsvidRequest { audience, spiffe_id }));
    bounded(call).await
}

/// The token keys of all trust domains that we may know, by the ID of the trust domain: the first message of the
/// stream, which is the whole state (H13).
///
/// # Errors
/// As the agent says.
pub async fn fetch_jwt_bundles(endpoint: &Endpoint) -> Result<HashMap<String, Vec<u8>>, ClientError> {
    let mut client = connect(endpoint).await?;
    let mut stream = bounded(client.fetch_jwt_bundles(request(JwtBundlesRequest {}))).await?;
    let first = tokio::time::timeout(CALL_TIMEOUT, stream.message())
        .await
        .map_err(|_| ClientError::Timeout(CALL_TIMEOUT))??;
    Ok(first.map(|message| message.bundles).unwrap_or_default())
}

/// Has the agent validate a JWT-SVID (I16).
///
/// # Errors
/// As the agent says: `InvalidArgument` for a token that is not valid.
pub async fn validate_jwt(
    endpoint: &Endpoint,
    audience: String,
    svid: String,
) -> Result<ValidateJwtsvidResponse, ClientError> {
    let mut client = connect(endpoint).await?;
    let call = client.validate_jwtsvid(request(ValidateJwtsvidRequest { audience, svid }));
    bounded(call).await
}

async fn bounded<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, ClientError> {
    let answer =
        tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| ClientError::Timeout(CALL_TIMEOUT))?;
    Ok(answer?.into_inner())
}

fn describe(status: &Status) -> String {
    format!("the Workload API answered {:?}: {}", status.code(), status.message())
}
