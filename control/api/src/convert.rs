//! Between SPIFFE IDs as values and as they travel.

use svidecar_id::{IdError, SpiffeId, TrustDomain};

use crate::spire::api::types::Spiffeid;

/// Why an ID in a message is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// The field was not set, or is empty.
    #[error("request must specify SPIFFE ID")]
    Missing,
    /// One of its two parts breaks the grammar.
    #[error("`{text}` is not a SPIFFE ID: {error}")]
    Invalid {
        /// The ID as it came, cut to a length that fits a log line.
        text: String,
        /// The first rule that is broken.
        error: IdError,
    },
}

impl From<&SpiffeId> for Spiffeid {
    fn from(id: &SpiffeId) -> Self {
        Self { trust_domain: id.trust_domain_str().to_owned(), path: id.path().to_owned() }
    }
}

impl TryFrom<&Spiffeid> for SpiffeId {
    type Error = BadId;

    fn try_from(id: &Spiffeid) -> Result<Self, BadId> {
        if id.trust_domain.is_empty() && id.path.is_empty() {
            return Err(BadId::Missing);
        }
        TrustDomain::parse_lenient(&id.trust_domain).and_then(|domain| Self::new(&domain, &id.path)).map_err(
            |error| {
                let text = format!("spiffe://{}{}", id.trust_domain, id.path).chars().take(300).collect();
                BadId::Invalid { text, error }
            },
        )
    }
}

impl Spiffeid {
    /// Reads an ID out of a message field that has to be there.
    ///
    /// # Errors
    /// [`BadId`] when it is missing or breaks the grammar.
    pub fn required(field: Option<&Self>) -> Result<SpiffeId, BadId> {
        SpiffeId::try_from(field.ok_or(BadId::Missing)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_the_trip() {
        for text in ["spiffe://demo.org", "spiffe://demo.org/a/b"] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!(SpiffeId::try_from(&Spiffeid::from(&id)), Ok(id));
        }
    }

    #[test]
    fn missing_and_malformed_are_told_apart() {
        assert_eq!(Spiffeid::required(None), Err(BadId::Missing));
        assert_eq!(Spiffeid::required(Some(&Spiffeid::default())), Err(BadId::Missing));
        let relative = Spiffeid { trust_domain: "demo.org".into(), path: "shop".into() };
        assert!(matches!(Spiffeid::required(Some(&relative)), Err(BadId::Invalid { .. })));
    }
}
