//! Decisions: the policy's pure function, asked with a connection's facts.
//!
//! No I/O, no clock. What was asked is kept as a [`Flight`], so that it can be asked again when the policy changes.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, Method, StatusCode, Uri, request::Parts, uri::PathAndQuery};
use svidecar_config::{
    normalize::normalize_path,
    policy::{Decision, Request},
};

use crate::{codes, connections::KillSwitch, peer::Peer, plan::Inbound, refusal::Refusal};

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
            headers: self.headers.as_ref(),
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
/// 400 for a path that two programs might read differently, 405 for CONNECT, which has none.
pub fn normalize_target(parts: &mut Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        let detail = "CONNECT is not served here";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, codes::BAD_REQUEST, detail));
    }
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

/// The authority of the target, else the `Host` field.
fn host_of<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    uri.authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| headers.get(http::header::HOST).and_then(|value| value.to_str().ok()))
}
