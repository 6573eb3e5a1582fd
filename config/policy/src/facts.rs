//! The facts on which a decision rests.
//!
//! Owns what a policy may ask about a request, whoever read that request and however it is kept.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_id::SpiffeId;

/// What the listener of a policy speaks. A policy for `tcp` cannot ask what only HTTP answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ListenerProtocol", description = "What a listener speaks.")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2: decisions per request.
    #[default]
    Http,
    /// Any bytes: decisions per connection.
    Tcp,
}

/// The facts of one request or connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The peer's ID, verified by the handshake; `None` when there is none, which is always denied.
    pub peer: Option<&'a SpiffeId>,
    /// The method; `None` outside HTTP.
    pub method: Option<&'a str>,
    /// The path without its query, as [`normalize_path`](crate::normalize::normalize_path) gives it.
    pub path: Option<&'a str>,
    /// The authority or `host` header; a port in it is ignored. `None` when a request has neither.
    pub host: Option<&'a str>,
    /// The request's headers.
    pub headers: Option<&'a dyn Headers>,
}

/// The headers of a request, in the form in which its reader keeps them.
pub trait Headers: fmt::Debug {
    /// Shows `visit` the values of all headers whose names [read alike](reads_alike), in order, and of each whether its name is the
    /// same but for case. `name` is lowercase.
    fn visit(&self, name: &str, visit: &mut dyn FnMut(bool, &[u8]));
}

/// Whether an application may take one name of a header for the other: those that make variables of headers, as CGI and WSGI do,
/// tell neither case nor `-` from `_`, and some not even other signs.
#[must_use]
pub fn reads_alike(name: &[u8], other: &[u8]) -> bool {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.iter().map(fold).eq(other.iter().map(fold))
}

impl Headers for http::HeaderMap {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(bool, &[u8])) {
        let alike = self.iter().filter(|(other, _)| reads_alike(other.as_str().as_bytes(), name.as_bytes()));
        alike.for_each(|(other, value)| visit(other.as_str() == name, value.as_bytes()));
    }
}
