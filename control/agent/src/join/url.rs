//! A bundle from an `https` URL, as the system's certificate authorities vouch for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{StatusCode, Uri};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use svidecar_authority::{bundle::Bundle, pem::MAX_PEM_BYTES, tls::provider};
use svidecar_config::agent::BundleFormat;
use svidecar_id::TrustDomain;
use svidecar_process::http::{Get, GetError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::document;
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
    let roots = system_roots().map_err(|error| failed(error.to_string()))?;
    let bytes = get(url, roots).await.map_err(|error| failed(error.to_string()))?;
    document::parse(&bytes, format, trust_domain).map_err(failed)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn get(url: &str, roots: RootCertStore) -> Result<Bytes, BoxError> {
    let uri: Uri = url.parse()?;
    let host = match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) => host.trim_matches(['[', ']']).to_owned(),
        _ => return Err("expected https://HOST/PATH".into()),
    };
    let connector = TlsConnector::from(Arc::new(web_config(roots)?));
    let connecting = async {
        let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
        let tls = connector.connect(ServerName::try_from(host.clone())?, tcp).await?;
        Ok::<_, BoxError>(tls)
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let get = Get { host: &host, path, time: TIMEOUT, body: MAX_PEM_BYTES };
    match get.on(connecting).await {
        Ok((StatusCode::OK, body)) => Ok(body),
        Ok((status, _)) => Err(format!("the answer is {status}").into()),
        Err(GetError::Late(limit)) => Err(format!("no answer within {} s", limit.as_secs()).into()),
        Err(error) => Err(error.into()),
    }
}

fn system_roots() -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no certificate authorities; install the package ca-certificates".into());
    }
    Ok(roots)
}

fn web_config(roots: RootCertStore) -> Result<ClientConfig, BoxError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use svidecar_authority::{
        key::{KeyType, PrivateKey},
        tls::Identity,
        x509::{CaParams, Subject, SvidParams, X509Ca},
    };
    use svidecar_id::SpiffeId;
    use svidecar_process::clock;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinHandle,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{svid::unix_time, testing::trust_domain};

    const HOUR: Duration = Duration::from_secs(3600);

    /// A web server on loopback that answers one request with `answer`, and the roots that vouch for it.
    async fn web(answer: &'static str) -> (String, RootCertStore, JoinHandle<()>) {
        let now = unix_time(clock::wall());
        let key = || PrivateKey::generate(KeyType::EcP256).unwrap();
        let params = CaParams { trust_domain: trust_domain(), ttl: HOUR, subject: Subject::ca_default() };
        let ca = X509Ca::self_signed(&params, key(), now).unwrap();
        let leaf = key();
        let id = SpiffeId::parse("spiffe://demo.org/web").unwrap();
        let mut params = SvidParams::new(id, leaf.spki_der(), HOUR);
        params.dns_names = vec!["localhost".into()];
        let chain = ca.sign_svid(&params, now).unwrap().chain;
        let identity = Identity::new(chain, leaf.pkcs8_der()).unwrap();
        let resolver = rustls::sign::SingleCertAndKey::from(identity.certified_key());
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/bundle", listener.local_addr().unwrap().port());
        let task = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            // A client that does not trust us goes away here.
            let Ok(mut tls) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await else { return };
            let mut request = vec![0; 1024];
            let read = tls.read(&mut request).await.unwrap_or(0);
            if request[..read].starts_with(b"GET /bundle HTTP/1.1\r\n") {
                tls.write_all(answer.as_bytes()).await.unwrap();
                tls.shutdown().await.unwrap();
            }
        });
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate().clone()).unwrap();
        (url, roots, task)
    }

    #[tokio::test]
    async fn the_body_of_a_good_answer_is_the_bundle() {
        let (url, roots, web) = web("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nbundle").await;
        assert_eq!(get(&url, roots).await.unwrap(), "bundle");
        web.await.unwrap();
    }

    #[tokio::test]
    async fn another_status_is_an_error_that_says_it() {
        let (url, roots, web) = web("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        assert!(get(&url, roots).await.unwrap_err().to_string().contains("404"));
        web.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_no_authority_vouches_for_is_refused() {
        let (url, _, web) = web("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nbundle").await;
        get(&url, RootCertStore::empty()).await.unwrap_err();
        web.await.unwrap();
    }

    #[tokio::test]
    async fn plain_http_is_refused() {
        assert!(get("http://localhost/bundle", RootCertStore::empty()).await.is_err());
    }
}
