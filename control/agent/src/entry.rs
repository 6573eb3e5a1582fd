//! A registration entry, as far as an agent needs it.
//!
//! Owns the reading of SPIRE's wire form into checked values: an entry with a broken ID or without
//! selectors is refused here, so that nothing behind this module ever sees one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use svidecar_api::{BadId, spire::api::types};
use svidecar_id::{IdError, SpiffeId, TrustDomain};

use crate::selector::{Selector, SelectorSet};

/// An entry's ID, as the server made it.
pub type EntryId = Arc<str>;

/// Which workloads (by their selectors) get which identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique in the trust domain.
    pub id: EntryId,
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// All of these must be true of a workload.
    pub selectors: SelectorSet,
    /// Other trust domains whose bundles the workload gets.
    pub federates_with: Vec<TrustDomain>,
    /// What the operator says the identity is for; empty for none.
    pub hint: String,
    /// Seconds since the Unix epoch; 0 when the server does not say.
    pub created_at: i64,
    /// Counts the entry's changes. Another revision needs a new SVID.
    pub revision: i64,
    /// Sign only when a workload asks.
    pub no_prefetch: bool,
    /// Each JWT-SVID has its own `jti`, so none is given out twice.
    pub unique_jwts: bool,
}

/// Why an entry from the server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// No ID.
    #[error("it has no entry ID")]
    NoId,
    /// The SPIFFE ID is missing or broken.
    #[error("its SPIFFE ID cannot be used: {0}")]
    SpiffeId(BadId),
    /// A trust domain in `federates_with` is broken.
    #[error("it federates with `{text}`, which is not a trust domain: {source}")]
    FederatesWith {
        /// What stood there.
        text: String,
        /// The rule that it breaks.
        source: IdError,
    },
    /// Every workload would match.
    #[error("it has no selectors")]
    NoSelectors,
}

/// The path of the parent of entries that give nodes another name.
const NODE_PARENT: &str = "/spire/server";

/// The type of the selector by which a join token's entry names its node.
const NODE_SELECTOR: &str = "spiffe_id";

/// Whether the Workload API serves such an entry at all: those for an SVID store and those that only give a
/// node another name are not for workloads.
#[must_use]
pub fn is_for_workloads(entry: &types::Entry) -> bool {
    let names_a_node = entry.parent_id.as_ref().is_some_and(|parent| parent.path == NODE_PARENT)
        || entry.selectors.iter().any(|selector| selector.r#type == NODE_SELECTOR);
    !entry.store_svid && !names_a_node
}

impl TryFrom<types::Entry> for Entry {
    type Error = EntryError;

    fn try_from(wire: types::Entry) -> Result<Self, EntryError> {
        if wire.id.is_empty() {
            return Err(EntryError::NoId);
        }
        let spiffe_id = types::Spiffeid::required(wire.spiffe_id.as_ref()).map_err(EntryError::SpiffeId)?;
        let selectors: SelectorSet =
            wire.selectors.iter().map(|selector| Selector::new(&selector.r#type, &selector.value)).collect();
        if selectors.is_empty() {
            return Err(EntryError::NoSelectors);
        }
        let federates_with = wire
            .federates_with
            .into_iter()
            .map(|text| {
                TrustDomain::parse_lenient(&text).map_err(|source| EntryError::FederatesWith { text, source })
            })
            .collect::<Result<_, _>>()?;
        let attributes = wire.additional_attributes.unwrap_or_default();
        Ok(Self {
            id: wire.id.into(),
            spiffe_id,
            selectors,
            federates_with,
            hint: wire.hint,
            created_at: wire.created_at,
            revision: wire.revision_number,
            no_prefetch: attributes.disable_x509_svid_prefetch,
            unique_jwts: attributes.jwt_svid_include_jti,
        })
    }
}

/// The order in which a workload sees its identities (Workload API §8): the oldest entry first, so that
/// adding an entry never changes a workload's default identity. Entries of one second go by their ID.
#[must_use]
pub fn by_age(a: &Entry, b: &Entry) -> std::cmp::Ordering {
    (a.created_at, &a.id).cmp(&(b.created_at, &b.id))
}

/// Leaves one identity per hint, the oldest entry's, as SPIRE does: a hint is unique within a response
/// (Workload API §5.2.1). Gives the entries that lost. `entries` must be in the order of [`by_age`].
pub fn drop_repeated_hints(entries: &mut Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let mut seen = std::collections::HashSet::new();
    let (kept, dropped) = std::mem::take(entries)
        .into_iter()
        .partition(|entry| entry.hint.is_empty() || seen.insert(entry.hint.clone()));
    *entries = kept;
    dropped
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    /// An entry for tests: selectors are `unix:` values.
    pub fn entry(id: &str, path: &str, selectors: &[&str]) -> Entry {
        Entry {
            id: id.into(),
            spiffe_id: SpiffeId::parse(&format!("spiffe://demo.org{path}")).unwrap(),
            selectors: selectors.iter().map(|value| Selector::new("unix", value)).collect(),
            federates_with: Vec::new(),
            hint: String::new(),
            created_at: 0,
            revision: 0,
            no_prefetch: false,
            unique_jwts: false,
        }
    }

    fn wire() -> types::Entry {
        types::Entry {
            id: "e1".into(),
            spiffe_id: Some(types::Spiffeid { trust_domain: "demo.org".into(), path: "/shop".into() }),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
            ..Default::default()
        }
    }

    #[test]
    fn a_sound_entry_is_read() {
        let entry = Entry::try_from(wire()).unwrap();
        assert_eq!(entry.spiffe_id.as_str(), "spiffe://demo.org/shop");
        assert_eq!(entry.selectors.to_string(), "unix:uid:1");
    }

    #[test]
    fn an_entry_that_would_match_everyone_or_name_nobody_is_refused() {
        let no_selectors = types::Entry { selectors: Vec::new(), ..wire() };
        assert_eq!(Entry::try_from(no_selectors), Err(EntryError::NoSelectors));
        let no_id = types::Entry { id: String::new(), ..wire() };
        assert_eq!(Entry::try_from(no_id), Err(EntryError::NoId));
        let broken = types::Spiffeid { trust_domain: "demo.org".into(), path: "/a//b".into() };
        let broken = types::Entry { spiffe_id: Some(broken), ..wire() };
        assert!(matches!(Entry::try_from(broken), Err(EntryError::SpiffeId(_))));
        assert!(matches!(
            Entry::try_from(types::Entry { spiffe_id: None, ..wire() }),
            Err(EntryError::SpiffeId(_))
        ));
    }

    #[test]
    fn entries_for_nodes_and_for_stores_are_not_for_workloads() {
        assert!(is_for_workloads(&wire()));
        assert!(!is_for_workloads(&types::Entry { store_svid: true, ..wire() }));
        let parent = types::Spiffeid { trust_domain: "demo.org".into(), path: "/spire/server".into() };
        assert!(!is_for_workloads(&types::Entry { parent_id: Some(parent), ..wire() }));
        let of_a_token =
            types::Selector { r#type: "spiffe_id".into(), value: "spiffe://demo.org/spire/agent/x".into() };
        assert!(!is_for_workloads(&types::Entry { selectors: vec![of_a_token], ..wire() }));
    }

    /// H17, M12
    #[test]
    fn the_oldest_entry_keeps_a_hint() {
        let hinted = |id: &str, created_at, hint: &str| {
            Arc::new(Entry { created_at, hint: hint.into(), ..entry(id, "/x", &["uid:1"]) })
        };
        let mut entries =
            vec![hinted("c", 3, "in"), hinted("a", 2, "in"), hinted("b", 1, ""), hinted("d", 0, "")];
        entries.sort_by(|a, b| by_age(a, b));
        let dropped = drop_repeated_hints(&mut entries);
        let ids = |entries: &[Arc<Entry>]| entries.iter().map(|e| e.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&entries), ["d", "b", "a"]);
        assert_eq!(ids(&dropped), ["c"]);
    }
}
