//! Hop-by-hop hygiene (RFC 9110 §7.6.1): what belongs to one connection must not travel over the next.
//!
//! Pure functions over header maps. Never looks at identity headers; those are `headers`'.

mod fields;

use http::{
    HeaderMap, HeaderName, Method, Request, StatusCode, Version,
    header::{CONNECTION, HOST, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme, Uri},
};

pub use fields::{Hop, clean_request, clean_response, clean_trailers, say_close};

/// Hop-by-hop fields that are removed whether `Connection` names them or not. `trailer` stays: it announces the
/// trailers that we do forward. `te` is cut down to `trailers`, which gRPC needs.
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TRANSFER_ENCODING,
];

/// The most names that one `Connection` field may list; the rest are a sign of abuse and stay in the message.
const MAX_CONNECTION_OPTIONS: usize = 16;

/// The protocol that a request asks to switch to, if it does so properly (RFC 9110 §7.8).
#[must_use]
pub fn requested_upgrade(request: &Request<impl Sized>) -> Option<HeaderValue> {
    if request.version() != Version::HTTP_11 || request.method() == Method::CONNECT {
        return None;
    }
    let asks = connection_options(request.headers()).any(|option| option.eq_ignore_ascii_case("upgrade"));
    let protocol = request.headers().get(UPGRADE)?;
    // h2c by upgrade is deprecated and a known way around proxies (RFC 9113 §3.1): it is dropped, not forwarded.
    let is_h2c = protocol.as_bytes().get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c"));
    (asks && !is_h2c).then(|| protocol.clone())
}

/// Removes hop-by-hop fields from a message in either direction.
pub fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_options(headers)
            .take(MAX_CONNECTION_OPTIONS)
            .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
            .filter(|name| *name != TE && *name != HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
    if headers.contains_key(TE) {
        let trailers = headers.get_all(TE).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
            })
        });
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Puts back what asks for, or agrees to, a switch of protocols.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Whether a response switches protocols.
#[must_use]
pub fn is_switching(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}

/// Gives the request the form that HTTP/1.1 wants: an origin-form target and a `Host` field. An authority in the
/// target wins over `Host` (RFC 9112 §3.2.2).
pub fn to_http1(request: &mut Request<impl Sized>) {
    if let Some(authority) = request.uri().authority() {
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(HOST, host);
        }
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    if request.version() != Version::HTTP_10 {
        *request.version_mut() = Version::HTTP_11;
    }
}

/// Gives the request the form that HTTP/2 wants: scheme and authority in the target, no `Host` field.
pub fn to_http2(request: &mut Request<impl Sized>, tls: bool, fallback_authority: &str) {
    let host = request.headers_mut().remove(HOST);
    let authority = request
        .uri()
        .authority()
        .cloned()
        .or_else(|| host.and_then(|host| Authority::try_from(host.as_bytes()).ok()))
        .or_else(|| Authority::try_from(fallback_authority).ok());
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = authority;
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}

/// Whether the request is a gRPC call, by its content type.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().strip_prefix(b"application/grpc").is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";") || rest.starts_with(b" ")
        })
    })
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn what_belongs_to_the_connection_goes() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Private"),
            ("connection", "other"),
            ("x-private", "1"),
            ("other", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("te", "gzip, trailers"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
        ]);
        strip(&mut map);
        let left: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        for field in [("te", "trailers"), ("trailer", "x-sum"), ("accept", "*/*")] {
            assert!(left.contains(&field), "{left:?}");
        }
    }

    #[test]
    fn connection_cannot_remove_host() {
        let mut map = headers(&[("connection", "host, te"), ("host", "demo"), ("te", "trailers")]);
        strip(&mut map);
        assert_eq!(map.get(HOST).unwrap(), "demo");
        assert_eq!(map.get(TE).unwrap(), "trailers");
    }

    #[test]
    fn websocket_is_an_upgrade_and_h2c_is_not() {
        for (connection, upgrade, expected) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "websocket", true),
            ("keep-alive", "websocket", false),
            ("Upgrade, HTTP2-Settings", "h2c", false),
            ("Upgrade", "H2C", false),
        ] {
            let request =
                Request::builder().header(CONNECTION, connection).header(UPGRADE, upgrade).body(()).unwrap();
            assert_eq!(requested_upgrade(&request).is_some(), expected, "{connection} {upgrade}");
        }
        let old = Request::builder()
            .version(Version::HTTP_10)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .body(())
            .unwrap();
        assert_eq!(requested_upgrade(&old), None);
    }

    #[test]
    fn the_authority_of_the_target_wins_over_host() {
        let mut request =
            Request::builder().uri("http://real/path?q=1").header(HOST, "other").body(()).unwrap();
        to_http1(&mut request);
        assert_eq!(request.uri(), "/path?q=1");
        assert_eq!(request.headers().get(HOST).unwrap(), "real");
    }

    #[test]
    fn http2_takes_the_authority_from_host() {
        let mut request = Request::builder().uri("/path").header(HOST, "demo:80").body(()).unwrap();
        to_http2(&mut request, true, "fallback");
        assert_eq!(request.uri(), "https://demo:80/path");
        assert!(!request.headers().contains_key(HOST));

        let mut bare = Request::builder().uri("/path").body(()).unwrap();
        to_http2(&mut bare, false, "fallback:1");
        assert_eq!(bare.uri(), "http://fallback:1/path");
    }

    #[test]
    fn grpc_by_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), expected, "{value}");
        }
    }
}
