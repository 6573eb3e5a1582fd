//! SPIFFE IDs. A trust domain's own ID is made here too: IDs know of trust domains, never the other way round.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{IdError, SCHEME, TrustDomain, grammar};

/// A SPIFFE ID in its only, canonical form, such as `spiffe://demo.org/shop` (SPIFFE-ID §2).
/// Cheap to clone; equal IDs are equal bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Length of `spiffe://` and the trust domain: where the path begins.
    path_start: usize,
}

impl SpiffeId {
    /// Parses an ID, with or without a path.
    ///
    /// # Errors
    /// The first rule of SPIFFE-ID §2 that the text breaks.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let name = grammar::check_id(text)?;
        Ok(Self { path_start: SCHEME.len() + name.len(), text: text.into() })
    }

    /// Joins a trust domain and a path that begins with `/`; an empty path gives the trust domain's own ID.
    ///
    /// # Errors
    /// The first rule of SPIFFE-ID §2.2 that the path breaks, or an ID over 2048 bytes.
    pub fn new(trust_domain: &TrustDomain, path: &str) -> Result<Self, IdError> {
        if path.is_empty() {
            return Ok(trust_domain.id());
        }
        grammar::check_path(path.strip_prefix('/').ok_or(IdError::RelativePath)?)?;
        let text = format!("{SCHEME}{trust_domain}{path}");
        grammar::check_length(&text)?;
        Ok(Self { path_start: SCHEME.len() + trust_domain.as_str().len(), text: text.into() })
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain as text, without allocating.
    #[must_use]
    pub fn trust_domain_str(&self) -> &str {
        self.text.get(SCHEME.len()..self.path_start).unwrap_or_default()
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain::from_checked(self.trust_domain_str())
    }

    /// The path with its leading `/`; empty for the ID of a trust domain.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.path_start..).unwrap_or_default()
    }

    /// The segments of the path, none for the ID of a trust domain.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').skip(1)
    }

    /// Whether the ID names a member of `trust_domain`.
    #[must_use]
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_str() == trust_domain.as_str()
    }
}

impl TrustDomain {
    /// The ID of the trust domain itself, `spiffe://NAME`, which its signing certificates carry.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        let text = format!("{SCHEME}{self}");
        SpiffeId { path_start: text.len(), text: text.into() }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .map_err(|error| de::Error::custom(format_args!("`{text}` is not a SPIFFE ID: {error}")))
    }
}

#[cfg(test)]
mod tests;
