//! Health, metrics and a look inside, in plain HTTP for this machine.
//!
//! Owns the listener, the guards and the routes; `pages` renders the proxy's own state, `spiffe` answers local apps. Runs on
//! the control thread; only readiness asks the workers, because it vouches for them. Must never give out what is secret: that is
//! `control::local`'s.

mod pages;
mod spiffe;
mod view;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use svidecar_config::{address::ListenAddress, proxy::AdminSettings};
use svidecar_process::http::{Asked, Limits, Reply, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::view::Admin;
use crate::error::ProxyError;

/// Probes, a scraper, a person and some apps. A token or a chain to validate is far smaller than a body may be.
const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(15),
    answer: Duration::from_secs(15),
    body: 64 * 1024,
};

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
        let answer = move |asked| {
            let admin = Arc::clone(&admin);
            async move { admin.answer(asked).await }
        };
        serve(listener, LIMITS, answer, stop).await;
    }

    async fn answer(&self, asked: Asked) -> Reply {
        if is_own_host(asked.headers().get(HOST), asked.local()) {
            return self.route(asked).await;
        }
        Reply::error(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong_host",
            "the Host field is not an address of this listener; a web page may be behind this request",
        )
    }

    async fn route(&self, asked: Asked) -> Reply {
        let path = asked.path().to_owned();
        match (asked.method(), path.as_str()) {
            (&Method::POST, "/spiffe/validate/jwt" | "/spiffe/validate/x509") => {
                // A web page cannot send this type without asking first, so this keeps pages away (with the Host check).
                if !is_json(asked.headers().get(CONTENT_TYPE)) {
                    let message = "the body has to be of `content-type: application/json`";
                    return Reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content_type", message);
                }
                let Some(body) = read_body(asked).await else {
                    let message =
                        "the body is not JSON of at most 64 KiB; see the documentation of the field names";
                    return Reply::error(StatusCode::BAD_REQUEST, "bad_body", message);
                };
                match path.as_str() {
                    "/spiffe/validate/jwt" => spiffe::validate_jwt(self, &body).await,
                    _ => spiffe::validate_x509(self, &body),
                }
            }
            (_, path) if asked.is_read() => self.get(path).await,
            (_, path) => {
                let message = format!("{path} is read with GET");
                Reply::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
                    .allowing("GET, HEAD")
            }
        }
    }

    async fn get(&self, path: &str) -> Reply {
        match path {
            "/" => pages::index(),
            "/live" => Reply::text(StatusCode::OK, "live\n"),
            "/ready" => pages::ready(self).await,
            "/metrics" => pages::metrics(&self.shared),
            "/config" => pages::config(&self.shared),
            "/certs" => pages::certs(&self.shared),
            "/policy" => pages::policy(&self.shared),
            "/spiffe/status" => spiffe::status(self),
            "/spiffe/workload" => spiffe::workload(self),
            "/spiffe/svid/x509" => spiffe::svid(self),
            "/spiffe/svid/x509/chain" => spiffe::chain(self),
            "/spiffe/svid/jwt" => {
                let message = "tokens are given out where `local_api.listen` says, with the header `x-svidecar-local: true`";
                Reply::error(StatusCode::NOT_FOUND, "moved", message)
            }
            "/spiffe/.well-known/spiffe-bundle" => spiffe::bundle(self).await,
            "/spiffe/trust-bundle" => spiffe::trust_bundle(self),
            _ => Reply::error(StatusCode::NOT_FOUND, "not_found", "there is no such page; / lists them"),
        }
    }
}

async fn read_body(asked: Asked) -> Option<serde_json::Value> {
    serde_json::from_slice(&asked.body().await?).ok()
}

/// With parameters or without.
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let text = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A page in a browser can make its host name resolve to 127.0.0.1, but its requests still carry that name.
pub(super) fn is_own_host(host: Option<&HeaderValue>, local: Option<SocketAddr>) -> bool {
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
    fn only_json_is_json() {
        for (value, fits) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain; application/json", false),
            ("", false),
        ] {
            assert_eq!(is_json(Some(&HeaderValue::from_static(value))), fits, "{value}");
        }
        assert!(!is_json(None));
    }

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
