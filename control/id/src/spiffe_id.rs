//! SPIFFE IDs.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{IdError, MAX_ID_BYTES, SCHEME, TrustDomain, check_segment};

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
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::TooLong { bytes: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (name, path) = match rest.split_once('/') {
            Some((name, path)) => (name, Some(path)),
            None => (rest, None),
        };
        TrustDomain::parse(name)?;
        if let Some(path) = path {
            check_path(path)?;
        }
        Ok(Self { text: text.into(), path_start: SCHEME.len() + name.len() })
    }

    /// Joins a trust domain and a path that begins with `/`; an empty path gives the trust domain's own ID.
    ///
    /// # Errors
    /// The first rule of SPIFFE-ID §2.2 that the path breaks, or an ID over 2048 bytes.
    pub fn new(trust_domain: &TrustDomain, path: &str) -> Result<Self, IdError> {
        if path.is_empty() {
            return Ok(trust_domain.id());
        }
        check_path(path.strip_prefix('/').ok_or(IdError::RelativePath)?)?;
        let text = format!("{SCHEME}{trust_domain}{path}");
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::TooLong { bytes: text.len() });
        }
        Ok(Self { path_start: SCHEME.len() + trust_domain.as_str().len(), text: text.into() })
    }

    pub(crate) fn of_trust_domain(trust_domain: &TrustDomain) -> Self {
        let text = format!("{SCHEME}{trust_domain}");
        Self { path_start: text.len(), text: text.into() }
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

/// Checks the path without its leading `/`.
fn check_path(path: &str) -> Result<(), IdError> {
    if path.is_empty() || (path.ends_with('/') && !path.ends_with("//")) {
        return Err(IdError::TrailingSlash);
    }
    path.split('/').try_for_each(check_segment)
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
