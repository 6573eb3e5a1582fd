//! One entry of a policy's `tests`: a request and what is expected.

use std::{fmt, str::FromStr};

use svidecar_document::{node::Position, text::InvalidValue, text_value};
use svidecar_id::SpiffeId;

use crate::verdict::Verdict;

/// One entry of `tests`.
#[derive(Debug)]
pub(crate) struct Case {
    /// `None` is a peer without a verified ID.
    pub(crate) peer: Option<SpiffeId>,
    /// `None` on TCP.
    pub(crate) request: Option<RequestLine>,
    pub(crate) host: Option<String>,
    pub(crate) headers: http::HeaderMap,
    pub(crate) expect: Verdict,
    /// The rule that must decide, or `default`.
    pub(crate) rule: Option<String>,
    pub(crate) position: Position,
}

impl Case {
    /// The test in words: peer and request.
    pub(crate) fn name(&self) -> String {
        let peer = self.peer.as_ref().map_or("an unauthenticated peer", SpiffeId::as_str);
        match &self.request {
            Some(request) => format!("{peer} {request}"),
            None => peer.to_owned(),
        }
    }
}

/// Method and path of a request: `GET /orders?open=1`.
#[derive(Debug)]
pub(crate) struct RequestLine {
    method: Box<str>,
    target: Box<str>,
}

impl RequestLine {
    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// The path without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }
}

impl FromStr for RequestLine {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once(' ').map(|(method, target)| (method, target.trim())) {
            Some((method, target))
                if http::Method::from_bytes(method.as_bytes()).is_ok() && target.starts_with('/') =>
            {
                Ok(Self { method: method.into(), target: target.into() })
            }
            _ => Err(InvalidValue(format!(
                "`{text}` is not a request; write method and path, such as `GET /orders`"
            ))),
        }
    }
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

text_value!(RequestLine, "RequestLine", "request-line", ["GET /orders"]);
