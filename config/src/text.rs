//! Texts whose types are not ours: how a setting writes a trust domain, a SPIFFE ID, a header's name or the address of a
//! Workload API.
//!
//! Owns their formats, as a schema and as a check each. It must never know what a value is used for.

use std::net::SocketAddr;

use schemars::{Schema, json_schema};
use svidecar_document::text::{Check, InvalidValue};
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_policy::pattern::IdPattern;

pub(crate) const TRUST_DOMAIN: (&str, Check) = ("trust-domain", is_trust_domain);
pub(crate) const SPIFFE_ID: (&str, Check) = ("spiffe-id", is_spiffe_id);
pub(crate) const ID_PATTERN: (&str, Check) = ("spiffe-id-pattern", is_id_pattern);
pub(crate) const HEADER_NAME: (&str, Check) = ("header-name", is_header_name);
pub(crate) const WORKLOAD_ENDPOINT: (&str, Check) = ("workload-endpoint", is_workload_endpoint);

fn is_trust_domain(text: &str) -> Result<(), InvalidValue> {
    TrustDomain::parse_lenient(text)
        .map(drop)
        .map_err(|error| InvalidValue(format!("`{text}` is not a trust domain: {error}")))
}

fn is_spiffe_id(text: &str) -> Result<(), InvalidValue> {
    SpiffeId::parse(text)
        .map(drop)
        .map_err(|error| InvalidValue(format!("`{text}` is not a SPIFFE ID: {error}")))
}

fn is_id_pattern(text: &str) -> Result<(), InvalidValue> {
    IdPattern::parse(text)
        .map(drop)
        .map_err(|error| InvalidValue(format!("`{text}` is not a pattern: {error}")))
}

/// RFC 9110 §5.6.2: a field name is a token.
pub(crate) fn is_header_name(text: &str) -> Result<(), InvalidValue> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.is_empty() || text.len() > 256 || !text.bytes().all(token) {
        return Err(InvalidValue(format!(
            "`{text}` is not a header name; letters, digits and `-` are allowed, at most 256"
        )));
    }
    Ok(())
}

/// SPIFFE Workload Endpoint §4: `unix` has an absolute path and nothing else, `tcp` an IP address and a port.
/// A bare absolute path is accepted as well, as SPIRE's flags do.
fn is_workload_endpoint(text: &str) -> Result<(), InvalidValue> {
    let absolute =
        |path: &str| path.starts_with('/') && !path.starts_with("//") && !path.contains(['?', '#']);
    let fits = match text.split_once(':') {
        Some(("unix", path)) => absolute(path.strip_prefix("//").unwrap_or(path)),
        Some(("tcp", address)) => address.strip_prefix("//").is_some_and(|a| a.parse::<SocketAddr>().is_ok()),
        _ => absolute(text),
    };
    if fits {
        return Ok(());
    }
    Err(InvalidValue(format!(
        "`{text}` is not the address of a Workload API; expected `unix:///PATH` or `tcp://IP:PORT`"
    )))
}

/// Schema of the address of a Workload API.
pub(crate) fn workload_endpoint_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "workload-endpoint",
        "examples": ["unix:///run/svidecar/api.sock", "tcp://127.0.0.1:8000"],
    })
}

/// Schema of a trust domain name, `demo.org` or `spiffe://demo.org`.
pub(crate) fn trust_domain_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "trust-domain", "examples": ["demo.org"]})
}

/// As [`trust_domain_schema`], but it may be left out.
pub(crate) fn optional_trust_domain_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "trust-domain", "examples": ["demo.org"]})
}

/// Schema of a SPIFFE ID that may be left out.
pub(crate) fn optional_spiffe_id_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "spiffe-id", "examples": ["spiffe://demo.org/orders"]})
}

/// Schema of a list of SPIFFE IDs.
pub(crate) fn spiffe_ids_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "format": "spiffe-id"}})
}

/// Schema of a header name.
pub(crate) fn header_name_schema(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "header-name", "examples": ["x-spiffe-id"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I3, I4, I5
    #[test]
    fn workload_endpoints_are_those_of_the_standard() {
        for text in
            ["unix:///tmp/a.sock", "unix:/tmp/a.sock", "/tmp/a.sock", "tcp://127.0.0.1:8000", "tcp://[::1]:1"]
        {
            assert_eq!(is_workload_endpoint(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "unix://host/tmp/a.sock",
            "unix:tmp/a.sock",
            "unix:///tmp/a.sock?x=1",
            "unix:///tmp/a.sock#x",
            "tcp://localhost:8000",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:8000/x",
            "tcp:127.0.0.1:8000",
            "http://127.0.0.1:8000",
            "tmp/a.sock",
        ] {
            assert!(is_workload_endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn header_names_are_tokens() {
        for (name, fits) in
            [("x-spiffe-id", true), ("X_Id", true), ("", false), ("x id", false), ("x:", false), ("ä", false)]
        {
            assert_eq!(is_header_name(name).is_ok(), fits, "{name}");
        }
    }
}
