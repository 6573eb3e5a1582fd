//! A bundle from an `https` URL, as the system's certificate authorities vouch for it.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use svidecar_authority::{bundle::Bundle, pem::MAX_PEM_BYTES, tls::provider};
use svidecar_config::agent::BundleFormat;
use svidecar_id::TrustDomain;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::AgentError;

/// For all of it: name, connection, answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches the bundle. Redirects are not followed.
///
/// # Errors
/// [`AgentError::Bootstrap`] with what went wrong.
pub async fn fetch(
    url: &str,
    format: BundleFormat,
    trust_domain: &TrustDomain,
) -> Result<Bundle, AgentError> {
    let failed = |reason: String| AgentError::Bootstrap { from: url.to_owned(), reason };
    let bytes = match tokio::time::timeout(TIMEOUT, get(url)).await {
        Ok(bytes) => bytes.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {} s", TIMEOUT.as_secs()))),
    };
    super::parse(&bytes, format, trust_domain).map_err(failed)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn get(url: &str) -> Result<Vec<u8>, BoxError> {
    let uri: Uri = url.parse()?;
    let host = match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) => host.trim_matches(['[', ']']).to_owned(),
        _ => return Err("expected https://HOST/PATH".into()),
    };
    let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    let tls =
        TlsConnector::from(Arc::new(web_config()?)).connect(ServerName::try_from(host.clone())?, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, host).body(Empty::<bytes::Bytes>::new())?;
    // The connection ends when the sender is dropped, at the end of the exchange.
    let exchange = async move {
        let response: http::Response<hyper::body::Incoming> = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), MAX_PEM_BYTES).collect().await?;
        Ok(body.to_bytes().to_vec())
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

fn web_config() -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no certificate authorities; install the package ca-certificates".into());
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
