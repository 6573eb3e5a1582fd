//! The answers that the proxy gives instead of an upstream: a status, one stable code, a sentence for the operator.
//!
//! The sentence goes to the log. The peer gets the code, and only a peer that is authenticated does.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE},
};

use crate::{
    body::ResponseBody,
    message::{ResponseHead, Version},
};

/// Carries the code to a peer that is authenticated, or to our own app.
pub const ERROR_HEADER: &str = "x-svidecar-error";

/// Why a request was not forwarded, or got no response.
#[derive(Debug)]
pub struct Refusal {
    /// The status for a client that does not speak gRPC.
    pub status: StatusCode,
    /// The stable code: metric label, log field, heading of the troubleshooting page.
    pub code: &'static str,
    /// Expected, actual, what to do: for the log.
    pub detail: String,
    /// Whether the connection is of no further use to its peer.
    pub close: bool,
}

impl Refusal {
    /// A refusal that leaves the connection usable.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), close: false }
    }

    /// The same, and the connection ends with it.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Makes `head` the answer to a request of that version, and gives its body. A gRPC client gets a status that its
    /// library understands (trailers only).
    #[must_use]
    pub fn answer(&self, version: Version, grpc: bool, head: &mut ResponseHead) -> String {
        head.clear();
        let fields = &mut head.fields;
        let body = if grpc {
            head.status = StatusCode::OK.as_u16();
            fields.push(b"content-type", b"application/grpc");
            fields.push(b"grpc-status", self.grpc_status().as_bytes());
            fields.push(b"grpc-message", self.code.as_bytes());
            String::new()
        } else {
            head.status = self.status.as_u16();
            fields.push(b"content-type", b"text/plain; charset=utf-8");
            format!("svidecar: {}\n", self.code)
        };
        fields.push(b"content-length", body.len().to_string().as_bytes());
        fields.push(ERROR_HEADER.as_bytes(), self.code.as_bytes());
        if self.close && version < Version::Http2 {
            fields.push(b"connection", b"close");
        }
        body
    }

    /// The answer. A gRPC client gets a status that its library understands (trailers only).
    #[must_use]
    pub fn response(&self, grpc: bool) -> Response<ResponseBody> {
        let mut response = if grpc { self.grpc() } else { self.plain() };
        response.headers_mut().insert(ERROR_HEADER, HeaderValue::from_static(self.code));
        if self.close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn plain(&self) -> Response<ResponseBody> {
        let text = format!("svidecar: {}\n", self.code);
        let mut response = Response::new(ResponseBody::own(Bytes::from(text)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    fn grpc(&self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::own(Bytes::new()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(self.grpc_status()));
        headers.insert("grpc-message", HeaderValue::from_static(self.code));
        response
    }

    /// gRPC's own mapping of HTTP statuses (grpc/doc/http-grpc-status-mapping).
    fn grpc_status(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "13",
            StatusCode::UNAUTHORIZED => "16",
            StatusCode::FORBIDDEN => "7",
            StatusCode::NOT_FOUND => "12",
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => "14",
            _ => "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_client_gets_a_grpc_status() {
        let refusal = Refusal::new(StatusCode::FORBIDDEN, "denied_by_rule", "rule x");
        let response = refusal.response(true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(response.headers()[ERROR_HEADER], "denied_by_rule");
        assert!(http_body::Body::is_end_stream(response.body()));
    }

    #[test]
    fn both_forms_say_the_same() {
        let refusal = Refusal::new(StatusCode::FORBIDDEN, "denied_by_rule", "rule x").closing();
        for (version, grpc) in [(Version::Http11, false), (Version::Http2, false), (Version::Http2, true)] {
            let (mut head, old) = (ResponseHead::default(), refusal.response(grpc));
            let body = refusal.answer(version, grpc, &mut head);
            assert_eq!(head.status, old.status().as_u16());
            for (name, value) in old.headers() {
                let expected = (name != CONNECTION || version < Version::Http2).then_some(value.as_bytes());
                assert_eq!(head.fields.get(name.as_str()), expected, "{name}");
            }
            assert_eq!(head.fields.get("content-length"), Some(body.len().to_string().as_bytes()));
            assert_eq!(body.is_empty(), grpc);
        }
    }

    #[test]
    fn the_detail_stays_with_us() {
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "upstream_refused", "10.0.0.7 refused").closing();
        let response = refusal.response(false);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()[CONNECTION], "close");
        assert!(!format!("{:?}", response.headers()).contains("10.0.0.7"));
    }
}
