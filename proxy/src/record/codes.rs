//! The one list of stable codes: metric label, field of the log, heading of the troubleshooting page.
//!
//! Owns every word by which the proxy names a failure. A word never changes its meaning and is never used
//! for two; what the authority says about a peer's chain or token keeps the authority's own word.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)+

        /// Every code.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

codes! {
    // The peer's certificate; the words of `svidecar_authority::x509::X509Error`.
    /// No certificate in the chain.
    NO_CERTIFICATE = "no_certificate";
    /// More certificates than are looked at.
    CHAIN_TOO_LONG = "chain_too_long";
    /// A certificate that cannot be read.
    MALFORMED_CERTIFICATE = "malformed_certificate";
    /// No URI name, so no SPIFFE ID.
    NO_URI_SAN = "no_uri_san";
    /// More than one URI name.
    MULTIPLE_URI_SAN = "multiple_uri_san";
    /// The URI name is not a SPIFFE ID.
    INVALID_SPIFFE_ID = "invalid_spiffe_id";
    /// The ID of a trust domain, not of a workload.
    NO_PATH = "no_path";
    /// A CA certificate in place of an SVID.
    LEAF_IS_CA = "leaf_is_ca";
    /// An SVID that may sign certificates.
    LEAF_SIGNS_CERTIFICATES = "leaf_signs_certificates";
    /// A certificate that may not authenticate.
    LEAF_CANNOT_SIGN = "leaf_cannot_sign";
    /// No bundle for the peer's trust domain.
    UNKNOWN_TRUST_DOMAIN = "unknown_trust_domain";
    /// A bundle without valid authorities.
    EMPTY_BUNDLE = "empty_bundle";
    /// The chain leads to no root of the bundle.
    UNTRUSTED_ROOT = "untrusted_root";
    /// A signature in the chain does not verify.
    BAD_SIGNATURE = "bad_signature";
    /// Past its end.
    EXPIRED = "expired";
    /// Before its beginning.
    NOT_YET_VALID = "not_yet_valid";
    /// The chain breaks another rule of RFC 5280.
    INVALID_CHAIN = "invalid_chain";
    /// Authentic, but not who is expected.
    ID_NOT_ALLOWED = "id_not_allowed";

    // The handshake.
    /// The peer presented no certificate.
    NO_CLIENT_CERT = "no_client_cert";
    /// The peer does not speak TLS.
    PEER_SPOKE_PLAINTEXT = "peer_spoke_plaintext";
    /// The peer ended the handshake with an alert.
    PEER_REJECTED_US = "peer_rejected_us";
    /// The peer closed before or in the handshake.
    PEER_CLOSED = "peer_closed";
    /// The handshake took too long.
    HANDSHAKE_TIMEOUT = "handshake_timeout";
    /// No version, cipher or group in common.
    TLS_INCOMPATIBLE = "tls_incompatible";
    /// No application protocol in common.
    NO_COMMON_PROTOCOL = "no_common_protocol";
    /// Another failure of TLS.
    TLS_FAILED = "tls_failed";
    /// We have no SVID yet, or no more.
    NO_IDENTITY = "no_identity";

    // The request and its decision.
    /// A deny rule, or the policy's default, says no.
    DENIED_BY_RULE = "denied_by_rule";
    /// The path can be read in two ways.
    AMBIGUOUS_PATH = "ambiguous_path";
    /// The request breaks the rules of HTTP.
    BAD_REQUEST = "bad_request";
    /// The head of the request is larger than allowed.
    HEADERS_TOO_LARGE = "headers_too_large";
    /// The head of the request did not come in time.
    REQUEST_TIMEOUT = "request_timeout";
    /// The client went away before the response was complete.
    CLIENT_CLOSED = "client_closed";

    // The upstream: the workload behind an inbound listener, the server behind an outbound one.
    /// The upstream's name does not resolve.
    UPSTREAM_UNRESOLVED = "upstream_unresolved";
    /// The upstream refused the connection.
    UPSTREAM_REFUSED = "upstream_refused";
    /// The upstream refused to open a tunnel.
    TUNNEL_REFUSED = "tunnel_refused";
    /// There is no way to the upstream.
    UPSTREAM_UNREACHABLE = "upstream_unreachable";
    /// The connection to the upstream took too long.
    UPSTREAM_CONNECT_TIMEOUT = "upstream_connect_timeout";
    /// The upstream closed before its response was complete.
    UPSTREAM_CLOSED = "upstream_closed";
    /// The upstream broke the rules of its protocol.
    UPSTREAM_PROTOCOL_ERROR = "upstream_protocol_error";
    /// Another failure toward the upstream.
    UPSTREAM_FAILED = "upstream_failed";

    // The life of a connection.
    /// The listener has as many connections as it may.
    TOO_MANY_CONNECTIONS = "too_many_connections";
    /// The peer's SVID expired while it was connected.
    PEER_EXPIRED = "peer_expired";
    /// A new policy or bundle does not accept the peer any more.
    NO_LONGER_ALLOWED = "no_longer_allowed";
    /// The proxy is shutting down.
    DRAINING = "draining";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::ALL;

    #[test]
    fn codes_are_words_and_unique() {
        assert_eq!(ALL.iter().collect::<HashSet<_>>().len(), ALL.len());
        for code in ALL {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        }
    }
}
