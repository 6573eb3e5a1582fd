//! What a listing asks for: SPIRE's filters, and paging.

use svidecar_id::{SpiffeId, TrustDomain};

use super::{error::StoreError, record::Selector};

/// How the set that an object has compares to the set that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Both are the same.
    Exact,
    /// All that the object has was asked for.
    Subset,
    /// The object has all that was asked for.
    Superset,
    /// The object has something that was asked for.
    Any,
}

/// Which entries; `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// That give this SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// Directly below this parent.
    pub parent_id: Option<SpiffeId>,
    /// With such selectors.
    pub selectors: Option<(Match, Vec<Selector>)>,
    /// With such federated trust domains.
    pub federates_with: Option<(Match, Vec<TrustDomain>)>,
    /// With this hint.
    pub hint: Option<String>,
    /// That are, or are not, downstream.
    pub downstream: Option<bool>,
}

/// Which agents; `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Attested in this way.
    pub attestation_type: Option<String>,
    /// That are, or are not, banned.
    pub banned: Option<bool>,
    /// That may, or may not, attest again.
    pub can_reattest: Option<bool>,
    /// Whose SVID ends before (Unix seconds).
    pub expires_before: Option<i64>,
    /// With such selectors.
    pub selectors: Option<(Match, Vec<Selector>)>,
}

/// Which page of a listing.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// At most so many items; 0 for all.
    pub size: u32,
    /// What the page before said, empty for the first.
    pub token: String,
}

impl PageRequest {
    /// The number that the page before ended with, where pages follow a number; 0 for the first.
    ///
    /// # Errors
    /// [`StoreError::BadPageToken`].
    pub fn after(&self) -> Result<i64, StoreError> {
        if self.token.is_empty() {
            return Ok(0);
        }
        self.token.parse().map_err(|_| StoreError::BadPageToken(self.token.clone()))
    }

    /// How many items to look for: one more than asked for, which tells whether there is a next page. `None` for all.
    #[must_use]
    pub fn limit(&self) -> Option<i64> {
        (self.size > 0).then(|| i64::from(self.size) + 1)
    }

    /// Makes the page of what was found within [`Self::limit`], each item with what the next page would come after.
    #[must_use]
    pub fn cut<K: ToString, T>(&self, mut found: Vec<(K, T)>) -> Page<T> {
        let size = self.size as usize;
        let more = size > 0 && found.len() > size;
        if more {
            found.truncate(size);
        }
        let next = found.last().filter(|_| more).map(|(key, _)| key.to_string()).unwrap_or_default();
        Page { items: found.into_iter().map(|(_, item)| item).collect(), next }
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for the next page with; empty on the last one.
    pub next: String,
}
