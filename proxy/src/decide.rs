//! Decisions: the policy's pure function, asked with a connection's facts.
//!
//! No I/O, no clock. What was asked is kept as a [`Flight`], so that it can be asked again when the policy changes.

mod flights;
mod target;

use std::{borrow::Cow, sync::Arc};

use http::{
    HeaderMap, Method, StatusCode, Uri, Version,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use svidecar_config::{
    normalize::normalize_path,
    policy::{Decision, Headers, Policy, Request},
};
use svidecar_id::SpiffeId;

pub use self::{
    flights::{Flights, InFlight, Loser},
    target::normalize,
};
use crate::{
    codes,
    connections::KillSwitch,
    message::{Fields, Summary},
    peer::Peer,
    plan::Inbound,
    refusal::Refusal,
};

impl Headers for Fields {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.get_all(name).for_each(visit);
    }
}

/// Decides about one request whose target is [normalized](normalize).
#[must_use]
pub fn ask<'p>(
    policy: &'p Policy,
    peer: &SpiffeId,
    summary: &Summary,
    fields: Option<&Fields>,
) -> Decision<'p> {
    policy.decide(&Request {
        peer: Some(peer),
        method: Some(summary.method()),
        path: Some(summary.path()),
        host: summary.host(),
        headers: fields.map(|fields| fields as _),
    })
}

/// What a decision about a request rested on, and how to end the request if the decision changes.
pub struct Flight {
    method: Method,
    path: String,
    host: Option<String>,
    /// Only when the policy asks for headers.
    headers: Option<HeaderMap>,
    /// Ends the response.
    pub kill: Arc<KillSwitch>,
}

impl Flight {
    /// Keeps the facts of a request whose target is normalized.
    #[must_use]
    pub fn new(parts: &Parts, keep_headers: bool) -> Self {
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            host: host_of(&parts.uri, &parts.headers).map(ToOwned::to_owned),
            headers: keep_headers.then(|| parts.headers.clone()),
            kill: Arc::default(),
        }
    }

    /// Asks the policy of now.
    #[must_use]
    pub fn is_still_allowed(&self, listener: &Inbound, peer: &Peer) -> bool {
        let request = Request {
            peer: Some(peer.id()),
            method: Some(self.method.as_str()),
            path: Some(&self.path),
            host: self.host.as_deref(),
            headers: self.headers.as_ref().map(|headers| headers as _),
        };
        listener.policy.decide(&request).is_allowed()
    }
}

/// Decides about one request whose target is normalized.
#[must_use]
pub fn request<'p>(listener: &'p Inbound, peer: &Peer, parts: &Parts) -> Decision<'p> {
    listener.policy.decide(&Request {
        peer: Some(peer.id()),
        method: Some(parts.method.as_str()),
        path: Some(parts.uri.path()),
        host: host_of(&parts.uri, &parts.headers),
        headers: Some(&parts.headers),
    })
}

/// Decides about a TCP connection.
#[must_use]
pub fn connection<'p>(listener: &'p Inbound, peer: &Peer) -> Decision<'p> {
    listener.policy.decide(&Request { peer: Some(peer.id()), ..Request::default() })
}

/// Brings the path into the one form that is both decided about and forwarded.
///
/// # Errors
/// 400 for a path or a host that two programs might read differently, 405 for CONNECT, which has no path.
pub fn normalize_target(parts: &mut Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        let detail = "CONNECT is not served here";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, codes::BAD_REQUEST, detail));
    }
    check_host(parts)
        .map_err(|detail| Refusal::new(StatusCode::BAD_REQUEST, codes::BAD_REQUEST, detail).closing())?;
    let path = parts.uri.path();
    if path == "*" && parts.method == Method::OPTIONS {
        return Ok(());
    }
    let normalized = normalize_path(path).map_err(|rejection| {
        let detail = format!("the path of the request is ambiguous: {rejection}");
        Refusal::new(StatusCode::BAD_REQUEST, codes::AMBIGUOUS_PATH, detail)
    })?;
    let Cow::Owned(path) = normalized else { return Ok(()) };
    let target = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut uri = parts.uri.clone().into_parts();
    let replaced = PathAndQuery::try_from(target).ok().and_then(|target| {
        uri.path_and_query = Some(target);
        Uri::from_parts(uri).ok()
    });
    parts.uri = replaced.ok_or_else(|| {
        let detail = "the path of the request has no normal form";
        Refusal::new(StatusCode::BAD_REQUEST, codes::AMBIGUOUS_PATH, detail)
    })?;
    Ok(())
}

/// A request names one host, once: of two, the policy might read the first and the app the last. An authority in the
/// target wins and replaces the field (RFC 9112 §3.2; RFC 9113 §8.3.1).
fn check_host(parts: &Parts) -> Result<(), &'static str> {
    let mut fields = parts.headers.get_all(http::header::HOST).iter();
    let first = fields.next();
    if fields.next().is_some() {
        return Err("the request has more than one Host field");
    }
    if parts.uri.authority().is_some() {
        return Ok(());
    }
    match first.map(|field| Authority::try_from(field.as_bytes())) {
        Some(Ok(host)) if !host.as_str().contains('@') => Ok(()),
        Some(_) => Err("the Host field of the request is not a host"),
        None if parts.version == Version::HTTP_11 => {
            Err("the request has no Host field, which HTTP/1.1 demands")
        }
        None => Ok(()),
    }
}

/// The authority of the target, else the `Host` field.
fn host_of<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    uri.authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| headers.get(http::header::HOST).and_then(|value| value.to_str().ok()))
}

#[cfg(test)]
mod tests {
    use http::Request as HttpRequest;

    use super::*;

    fn parts(version: Version, target: &str, hosts: &[&str]) -> Parts {
        let mut request = HttpRequest::get(target).version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_names_one_host() {
        for (version, target, hosts, fine) in [
            (Version::HTTP_11, "/a", &["orders.internal"][..], true),
            (Version::HTTP_11, "/a", &["orders.internal:8080"], true),
            (Version::HTTP_11, "/a", &["[::1]:8080"], true),
            (Version::HTTP_11, "http://orders.internal/a", &["other"], true),
            (Version::HTTP_2, "https://orders.internal/a", &[], true),
            (Version::HTTP_10, "/a", &[], true),
            (Version::HTTP_11, "/a", &[], false),
            (Version::HTTP_11, "/a", &["orders.internal", "evil.example"], false),
            (Version::HTTP_11, "http://orders.internal/a", &["a", "b"], false),
            (Version::HTTP_11, "/a", &["orders.internal/evil"], false),
            (Version::HTTP_11, "/a", &["evil@orders.internal"], false),
            (Version::HTTP_11, "/a", &["a, b"], false),
            (Version::HTTP_11, "/a", &[""], false),
        ] {
            let outcome = normalize_target(&mut parts(version, target, hosts));
            assert_eq!(outcome.is_ok(), fine, "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn the_query_survives_normalization() {
        let mut parts = parts(Version::HTTP_11, "/a/./%61?x=%2F..", &["h"]);
        normalize_target(&mut parts).unwrap();
        assert_eq!(parts.uri, "/a/a?x=%2F..");
    }
}
