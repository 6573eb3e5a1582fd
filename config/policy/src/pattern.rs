//! Patterns over SPIFFE IDs: the one way in which policies, upstreams and header settings name peers.
//!
//! Owns parsing and matching of `spiffe://TRUST_DOMAIN/SEGMENT/…`, where a segment is literal, `*`
//! (exactly one segment), `{name}` (one segment, captured) or a final `**` (the rest: none or more
//! segments). It must never match part of a segment and never match across trust domains: an ID that
//! merely begins or ends like the pattern is another ID.

mod error;
mod segments;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use svidecar_id::{MAX_ID_BYTES, SCHEME, SpiffeId, TrustDomain, check_segment};

pub use self::error::PatternError;
pub(crate) use self::segments::{Segment, Segments};

/// A pattern over SPIFFE IDs, such as `spiffe://demo.org/ns/*/sa/{account}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdPattern(Arc<Parsed>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parsed {
    text: Box<str>,
    trust_domain: Box<str>,
    segments: Segments,
}

impl IdPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The first rule of the grammar that the text breaks.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_ID_BYTES {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(PatternError::Scheme)?;
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        if name.contains(['*', '{', '}']) {
            return Err(PatternError::WildcardTrustDomain);
        }
        let trust_domain = TrustDomain::parse(name).map_err(PatternError::TrustDomain)?;
        if path.is_empty() {
            return Err(PatternError::NoPath { trust_domain: name.into() });
        }
        let segments = Segments::parse(path, |segment| match check_segment(segment) {
            Ok(()) => Ok(segment.into()),
            Err(source) => Err(PatternError::Segment { segment: segment.into(), source }),
        })?;
        Ok(Self(Arc::new(Parsed { text: text.into(), trust_domain: trust_domain.as_str().into(), segments })))
    }

    /// Whether `id` matches, in time proportional to the length of the ID.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        *id.trust_domain_str() == *self.0.trust_domain
            && self.0.segments.matches(id.segments(), |a, b| a == b)
    }

    /// The values of the captures when `id` matches, in the order in which the pattern names them.
    #[must_use]
    pub fn captures<'a>(&'a self, id: &'a SpiffeId) -> Option<Vec<(&'a str, &'a str)>> {
        self.matches(id).then(|| self.0.segments.captures(id.segments()))
    }

    /// The names of the captures, in order.
    pub fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.0.segments.capture_names()
    }

    /// The one ID that the pattern matches, if it has no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<SpiffeId> {
        if self.0.segments.is_literal() { SpiffeId::parse(&self.0.text).ok() } else { None }
    }

    /// Whether the pattern matches every member of its trust domain.
    #[must_use]
    pub fn is_whole_trust_domain(&self) -> bool {
        self.0.segments.is_only_rest()
    }

    /// The trust domain that every match belongs to.
    #[must_use]
    pub fn trust_domain_str(&self) -> &str {
        &self.0.trust_domain
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.0.segments
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0.text, f)
    }
}

impl FromStr for IdPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl Serialize for IdPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for IdPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for IdPattern {
    fn schema_name() -> Cow<'static, str> {
        "IdPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "spiffe-id-pattern",
            "description": "A SPIFFE ID, or a pattern: `*` and `{name}` are one segment, a final `**` the rest.",
            "pattern": "^spiffe://[a-z0-9._-]+/.+",
            "examples": ["spiffe://demo.org/shop", "spiffe://demo.org/ns/*/sa/web", "spiffe://demo.org/**"],
        })
    }
}
