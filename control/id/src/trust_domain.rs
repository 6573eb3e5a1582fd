//! Trust domain names.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{IdError, SCHEME, grammar};

/// The name of a trust domain, such as `demo.org` (SPIFFE-ID §2.1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name. For settings and command lines that take either form, see [`Self::parse_lenient`].
    ///
    /// # Errors
    /// The first rule of SPIFFE-ID §2.1 that the name breaks.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        grammar::check_trust_domain(name)?;
        Ok(Self(name.into()))
    }

    /// Parses `demo.org` or any ID of that trust domain (`spiffe://demo.org`, `spiffe://demo.org/x`), as
    /// SPIRE's settings and command line do.
    ///
    /// # Errors
    /// As [`Self::parse`], or as [`crate::SpiffeId::parse`] when the scheme is there.
    pub fn parse_lenient(text: &str) -> Result<Self, IdError> {
        if text.starts_with(SCHEME) {
            return grammar::check_id(text).map(Self::from_checked);
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
