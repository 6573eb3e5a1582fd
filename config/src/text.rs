//! Values that a setting writes as one string: what they have in common.
//!
//! Owns the glue that gives such a type serde, a JSON Schema with a `format`, and a check that the
//! loader runs on every string of that format, so that all misspelt values of a file are reported at once.
//! It must never know what a value is used for.

use std::{fmt::Display, net::SocketAddr, str::FromStr};

use schemars::{Schema, json_schema};
use svidecar_id::{SpiffeId, TrustDomain};

use crate::pattern::IdPattern;

/// Why a text is not the value that a setting wants: one sentence with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub String);

/// A type that a setting writes as one string.
pub(crate) trait TextValue: FromStr<Err = InvalidValue> + Display {
    /// The `format` in the JSON Schema, which selects the loader's check.
    const FORMAT: &'static str;
}

/// Implements serde and JSON Schema for a [`TextValue`].
macro_rules! text_value {
    ($type:ty, $name:literal, $format:literal, $examples:expr) => {
        impl $crate::text::TextValue for $type {
            const FORMAT: &'static str = $format;
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let examples: &[&str] = &$examples;
                schemars::json_schema!({"type": "string", "format": $format, "examples": examples})
            }
        }
    };
}
pub(crate) use text_value;

type Check = fn(&str) -> Result<(), InvalidValue>;

fn parses<T: TextValue>(text: &str) -> Result<(), InvalidValue> {
    text.parse::<T>().map(drop)
}

/// The check behind a `format`; `None` for formats that are only documentation.
pub(crate) fn check_of(format: &str) -> Option<Check> {
    use crate::{
        address::{Address, ListenAddress, OptionalListenAddress},
        agent::{EngineSocket, SocketTemplate},
        log::LogLevel,
        proxy::{AccessLogPath, TunnelDestination, Workers},
        units::{ByteSize, HumanDuration},
    };
    let table: [(&str, Check); 16] = [
        (HumanDuration::FORMAT, parses::<HumanDuration>),
        (ByteSize::FORMAT, parses::<ByteSize>),
        (ListenAddress::FORMAT, parses::<ListenAddress>),
        (OptionalListenAddress::FORMAT, parses::<OptionalListenAddress>),
        (Address::FORMAT, parses::<Address>),
        (EngineSocket::FORMAT, parses::<EngineSocket>),
        (SocketTemplate::FORMAT, parses::<SocketTemplate>),
        (LogLevel::FORMAT, parses::<LogLevel>),
        (AccessLogPath::FORMAT, parses::<AccessLogPath>),
        (Workers::FORMAT, parses::<Workers>),
        (TunnelDestination::FORMAT, parses::<TunnelDestination>),
        ("trust-domain", is_trust_domain),
        ("spiffe-id", is_spiffe_id),
        ("spiffe-id-pattern", is_id_pattern),
        ("header-name", is_header_name),
        ("workload-endpoint", is_workload_endpoint),
    ];
    table.into_iter().find_map(|(name, check)| (name == format).then_some(check))
}

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
        "examples": ["unix:///tmp/spire-agent/public/api.sock", "tcp://127.0.0.1:8000"],
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
