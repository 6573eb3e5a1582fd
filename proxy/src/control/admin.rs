//! Health, metrics and a look inside, in plain HTTP for this machine.
//!
//! Owns the listener, the guards and the routes; `pages` renders the proxy's own state, `spiffe` answers local apps. Runs on
//! the control thread; only readiness asks the workers, because it vouches for them.

mod answer;
mod pages;
mod spiffe;
mod view;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use svidecar_config::{address::ListenAddress, proxy::AdminSettings};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::answer::Answer;
pub use self::view::Admin;
use crate::error::ProxyError;

/// A token or a chain to validate is far smaller.
const MAX_BODY: usize = 64 * 1024;
/// For a whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Probes, a scraper, a person and some apps.
const MAX_CONNECTIONS: usize = 256;

/// Binds the admin's address, unless it is off.
///
/// # Errors
/// An address that cannot be had, or one that other machines reach although `unsafe_listen` is not set.
pub async fn bind(settings: &AdminSettings) -> Result<Option<TcpListener>, ProxyError> {
    let address = match settings.listen.address() {
        None => return Ok(None),
        Some(ListenAddress::Tcp(address)) => *address,
        Some(other) => return Err(refuse_address(other, "the admin listens on TCP only")),
    };
    if !address.ip().is_loopback() && !settings.unsafe_listen {
        let shown = ListenAddress::Tcp(address);
        return Err(refuse_address(
            &shown,
            "other machines could read it; listen on 127.0.0.1, or set admin.unsafe_listen",
        ));
    }
    let bound = TcpListener::bind(address).await.map_err(|source| ProxyError::Bind {
        listener: "admin".to_owned(),
        address: address.to_string(),
        source,
    })?;
    Ok(Some(bound))
}

fn refuse_address(address: &ListenAddress, why: &'static str) -> ProxyError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
    ProxyError::Bind { listener: "admin".to_owned(), address: address.to_string(), source }
}

impl Admin {
    /// Serves until `stop`.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let admin = Arc::new(self);
        let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "Cannot accept a connection to the admin");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&limit).try_acquire_owned() else { continue };
            let (admin, stop) = (Arc::clone(&admin), stop.clone());
            admin.tasks.clone().spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = admin.serve(stream) => {}
                }
                drop(permit);
            });
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let local = stream.local_addr().ok();
        let service = service_fn(|request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(request, local).await) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_headers(64)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = serving.await {
            debug!(%error, "A connection to the admin failed");
        }
    }

    async fn answer(&self, request: Request<Incoming>, local: Option<SocketAddr>) -> Response<Full<Bytes>> {
        let head_only = request.method() == Method::HEAD;
        let answer = if is_own_host(request.headers().get(HOST), local) {
            tokio::time::timeout(REQUEST_TIMEOUT, self.route(request)).await.unwrap_or_else(|_| {
                Answer::error(StatusCode::GATEWAY_TIMEOUT, "timeout", "the answer took too long")
            })
        } else {
            Answer::error(
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "the Host field is not an address of this listener; a web page may be behind this request",
            )
        };
        let body = if head_only { Bytes::new() } else { answer.body };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "/spiffe/validate/jwt" | "/spiffe/validate/x509") => {
                // A form of a web page cannot send JSON, so this keeps pages from asking (with the Host check).
                let Some(body) = read_body(request).await else {
                    let message =
                        "the body is not JSON of at most 64 KiB; see the documentation of the field names";
                    return Answer::error(StatusCode::BAD_REQUEST, "bad_body", message);
                };
                match path.as_str() {
                    "/spiffe/validate/jwt" => spiffe::validate_jwt(self, &body).await,
                    _ => spiffe::validate_x509(self, &body),
                }
            }
            (&(Method::GET | Method::HEAD), path) => self.get(path, &query).await,
            (_, path) => {
                let message = format!("{path} is read with GET");
                Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
            }
        }
    }

    async fn get(&self, path: &str, query: &str) -> Answer {
        match path {
            "/" => pages::index(),
            "/live" => Answer::text(StatusCode::OK, "live\n"),
            "/ready" => pages::ready(self).await,
            "/metrics" => pages::metrics(&self.shared),
            "/config" => pages::config(&self.shared),
            "/certs" => pages::certs(&self.shared),
            "/policy" => pages::policy(&self.shared),
            "/spiffe/status" => spiffe::status(self),
            "/spiffe/workload" => spiffe::workload(self),
            "/spiffe/svid/x509" => spiffe::svid(self),
            "/spiffe/svid/x509/chain" => spiffe::chain(self),
            "/spiffe/svid/jwt" => spiffe::jwt(self, query).await,
            "/spiffe/.well-known/spiffe-bundle" => spiffe::bundle(self).await,
            "/spiffe/trust-bundle" => spiffe::trust_bundle(self),
            _ => Answer::error(StatusCode::NOT_FOUND, "not_found", "there is no such page; / lists them"),
        }
    }
}

async fn read_body(request: Request<Incoming>) -> Option<serde_json::Value> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await.ok()?.to_bytes();
    serde_json::from_slice(&body).ok()
}

/// A page in a browser can make its host name resolve to 127.0.0.1, but its requests still carry that name.
fn is_own_host(host: Option<&HeaderValue>, local: Option<SocketAddr>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        // HTTP/1.0, which no browser speaks.
        return true;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|ip| ip.is_loopback() || local.is_some_and(|local| local.ip() == ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebound_name_is_not_our_host() {
        let local = Some("127.0.0.1:15000".parse().unwrap());
        for (host, own) in [
            ("127.0.0.1:15000", true),
            ("127.0.0.1", true),
            ("localhost:15000", true),
            ("LOCALHOST", true),
            ("[::1]:15000", true),
            ("evil.example.com:15000", false),
            ("evil.example.com", false),
            ("127.0.0.1.evil.example.com", false),
            ("10.0.0.1:15000", false),
        ] {
            let value = HeaderValue::from_static(host);
            assert_eq!(is_own_host(Some(&value), local), own, "{host}");
        }
    }
}
