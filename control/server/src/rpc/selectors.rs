//! Selectors between their stored and their sent form.

use svidecar_api::spire::api::types::{self, selector_match::MatchBehavior};

use crate::store::{Match, Selector};

/// A selector as sent.
pub fn to_proto(selector: &Selector) -> types::Selector {
    types::Selector { r#type: selector.kind.clone(), value: selector.value.clone() }
}

/// Reads selectors that were sent.
///
/// # Errors
/// What is wrong, in SPIRE's words.
pub fn from_proto(sent: &[types::Selector]) -> Result<Vec<Selector>, String> {
    sent.iter()
        .map(|selector| match (selector.r#type.as_str(), selector.value.as_str()) {
            ("", _) => Err("missing selector type".to_owned()),
            (kind, _) if kind.contains(':') => Err("selector type contains ':'".to_owned()),
            (_, "") => Err("missing selector value".to_owned()),
            (kind, value) => Ok(Selector::new(kind, value)),
        })
        .collect()
}

/// How sets are compared.
pub fn comparison(behavior: MatchBehavior) -> Match {
    match behavior {
        MatchBehavior::MatchExact => Match::Exact,
        MatchBehavior::MatchSubset => Match::Subset,
        MatchBehavior::MatchSuperset => Match::Superset,
        MatchBehavior::MatchAny => Match::Any,
    }
}
