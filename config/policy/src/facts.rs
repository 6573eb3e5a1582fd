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
    /// The authority or `host` header; a port in it is ignored.
    pub host: Option<&'a str>,
    /// The request's headers.
    pub headers: Option<&'a dyn Headers>,
}

/// The headers of a request, in the form in which its reader keeps them.
pub trait Headers: fmt::Debug {
    /// Shows `visit` the values of all headers of that name, in order. `name` is lowercase.
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

impl Headers for http::HeaderMap {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.get_all(name).iter().for_each(|value| visit(value.as_bytes()));
    }
}
