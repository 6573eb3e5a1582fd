//! The answers that the proxy gives instead of an upstream: a status, one stable code, a sentence for the operator.
//!
//! The sentence goes to the log. The peer gets the code, and only a peer that is authenticated does.

use http::StatusCode;
use svidecar_code::Code;

use crate::message::{ResponseHead, Version};

/// Carries the code to a peer that is authenticated, or to our own app.
pub const ERROR_HEADER: &str = "x-svidecar-error";

/// Why a request was not forwarded, or got no response.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The stable code, with the status that it is answered with.
    pub code: Code,
    /// Expected, actual, what to do: for the log.
    pub detail: String,
    /// Whether the connection is of no further use to its peer.
    pub close: bool,
}

impl Refusal {
    /// A refusal that leaves the connection usable.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), close: false }
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
            fields.push(b"grpc-status", self.code.grpc().to_string().as_bytes());
            fields.push(b"grpc-message", self.code.name().as_bytes());
            String::new()
        } else {
            head.status = self.code.status();
            fields.push(b"content-type", b"text/plain; charset=utf-8");
            format!("svidecar: {}\n", self.code)
        };
        let reason = StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
        head.reason.extend_from_slice(reason.unwrap_or_default().as_bytes());
        fields.push(b"content-length", body.len().to_string().as_bytes());
        fields.push(ERROR_HEADER.as_bytes(), self.code.name().as_bytes());
        if self.close && version < Version::Http2 {
            fields.push(b"connection", b"close");
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_client_gets_a_grpc_status() {
        let refusal = Refusal::new(Code::DeniedByRule, "rule x");
        let mut head = ResponseHead::default();
        let body = refusal.answer(Version::Http2, true, &mut head);
        assert_eq!((head.status, body.as_str()), (200, ""));
        assert_eq!(head.fields.get("grpc-status"), Some(&b"7"[..]));
        assert_eq!(head.fields.get(ERROR_HEADER), Some(&b"denied_by_rule"[..]));
    }

    #[test]
    fn only_http_1_is_told_to_close() {
        let refusal = Refusal::new(Code::UpstreamFailed, "").closing();
        for (version, told) in [(Version::Http10, true), (Version::Http11, true), (Version::Http2, false)] {
            let mut head = ResponseHead::default();
            let body = refusal.answer(version, false, &mut head);
            assert_eq!(head.fields.contains("connection"), told);
            assert_eq!(head.fields.get("content-length"), Some(body.len().to_string().as_bytes()));
        }
    }

    #[test]
    fn the_detail_stays_with_us() {
        let refusal = Refusal::new(Code::UpstreamFailed, "10.0.0.7 refused");
        let mut head = ResponseHead::default();
        let body = refusal.answer(Version::Http11, false, &mut head);
        assert_eq!(head.status, 502);
        assert!(!format!("{head:?}{body}").contains("10.0.0.7"));
    }
}
