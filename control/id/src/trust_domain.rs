//! Trust domain names.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{IdError, MAX_TRUST_DOMAIN_BYTES, SCHEME, SpiffeId};

/// The name of a trust domain, such as `demo.org` (SPIFFE-ID §2.1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name. For settings and command lines that take either form, see [`Self::parse_lenient`].
    ///
    /// # Errors
    /// The first rule of SPIFFE-ID §2.1 that the name breaks.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::EmptyTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(IdError::TrustDomainTooLong { bytes: name.len() });
        }
        match name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
            Some(found) => Err(IdError::TrustDomainCharacter { found }),
            None => Ok(Self(name.into())),
        }
    }

    /// Parses `demo.org` or any ID of that trust domain (`spiffe://demo.org`, `spiffe://demo.org/x`), as
    /// SPIRE's settings and command line do.
    ///
    /// # Errors
    /// As [`Self::parse`], or as [`SpiffeId::parse`] when the scheme is there.
    pub fn parse_lenient(text: &str) -> Result<Self, IdError> {
        if text.starts_with(SCHEME) {
            return SpiffeId::parse(text).map(|id| id.trust_domain());
        }
        Self::parse(text)
    }

    /// For a name that was checked as part of a whole ID.
    pub(crate) fn from_checked(name: &str) -> Self {
        Self(name.into())
    }

    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the trust domain itself, `spiffe://NAME`, which its signing certificates carry.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId::of_trust_domain(self)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl Serialize for TrustDomain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TrustDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_lenient(&text)
            .map_err(|error| de::Error::custom(format_args!("`{text}` is not a trust domain: {error}")))
    }
}
