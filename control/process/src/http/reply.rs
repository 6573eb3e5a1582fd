//! An answer before it is on the wire.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;

/// What a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// The methods that go, when the one that was used does not.
    allow: Option<&'static str>,
}

impl Reply {
    /// A body of any type.
    pub fn of_type(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into(), allow: None }
    }

    /// Lines for a person.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, ..Self::of_type("text/plain; charset=utf-8", body) }
    }

    /// A JSON document on one line.
    #[must_use]
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        // Documents are plain data with text keys: serializing them cannot fail.
        Self { status, ..Self::of_type("application/json", serde_json::to_vec(value).unwrap_or_default()) }
    }

    /// A JSON document on as many lines as people like.
    #[must_use]
    pub fn json_indented(status: StatusCode, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
        body.push(b'\n');
        Self { status, ..Self::of_type("application/json", body) }
    }

    /// What is wrong, with a name for programs and a sentence for people.
    #[must_use]
    pub fn error(status: StatusCode, code: &str, message: &str) -> Self {
        Self::json_indented(status, &json!({ "error": code, "message": message }))
    }

    /// This, for a request by a method that does not go here; `methods` do.
    #[must_use]
    pub fn allowing(self, methods: &'static str) -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, allow: Some(methods), ..self }
    }
}

impl From<Reply> for Response<Full<Bytes>> {
    fn from(reply: Reply) -> Self {
        let mut response = Self::new(Full::new(reply.body));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(methods) = reply.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}
