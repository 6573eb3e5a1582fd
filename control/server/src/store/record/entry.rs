//! A registration entry: its fields, which of them an update sets, and SPIRE's rules for them.

use std::collections::HashSet;

use svidecar_id::{SpiffeId, TrustDomain};
use uuid::Uuid;

use super::{Selector, columns::columns};
use crate::store::error::StoreError;

/// Longest entry ID in bytes, as in SPIRE.
const MAX_ENTRY_ID_BYTES: usize = 255;
/// Longest hint in bytes, as in SPIRE.
const MAX_HINT_BYTES: usize = 1024;
/// Most selectors, DNS names or federated trust domains of one entry.
const MAX_LIST: usize = 1000;

/// Declares an entry and its mask from one list of the fields, with all that goes field by field: what a new one begins
/// with, what an update copies, and which columns a row has. What is added here is added there.
macro_rules! entry {
    (
        identity { $($(#[$identity_doc:meta])* $identity:ident: $identity_type:ty,)* }
        lists { $($(#[$list_doc:meta])* $list:ident: $list_type:ty,)* }
        values { $($(#[$value_doc:meta])* $value:ident: $value_type:ty,)* }
        own { $($(#[$own_doc:meta])* $own:ident: $own_type:ty,)* }
    ) => {
        /// A registration entry: workloads with these selectors, on agents below this parent, get this SPIFFE ID.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct EntryRecord {
            $($(#[$identity_doc])* pub $identity: $identity_type,)*
            $($(#[$list_doc])* pub $list: $list_type,)*
            $($(#[$value_doc])* pub $value: $value_type,)*
            $($(#[$own_doc])* pub $own: $own_type,)*
        }

        impl EntryRecord {
            fn begin($($identity: $identity_type),*) -> Self {
                Self {
                    $($identity,)*
                    $($list: Vec::new(),)*
                    $($value: Default::default(),)*
                    $($own: Default::default(),)*
                }
            }

            /// Drops duplicates in the lists, keeping the first of each.
            fn dedupe(&mut self) {
                $(dedupe(&mut self.$list);)*
            }

            fn longest_list(&self) -> usize {
                0 $(.max(self.$list.len()))*
            }
        }

        columns!(EntryRecord { $($identity,)* $($value,)* $($own),* } lists { $($list),* });

        /// Which fields of an entry an update sets; the others stay as they are, and the server's own always do.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is named after the field of the record it stands for")]
        pub struct EntryMask {
            $(pub $identity: bool,)*
            $(pub $list: bool,)*
            $(pub $value: bool,)*
        }

        impl EntryMask {
            /// Every field.
            pub const ALL: Self = Self { $($identity: true,)* $($list: true,)* $($value: true,)* };

            /// Copies the chosen fields.
            fn apply(self, from: EntryRecord, to: &mut EntryRecord) {
                $(if self.$identity { to.$identity = from.$identity; })*
                $(if self.$list { to.$list = from.$list; })*
                $(if self.$value { to.$value = from.$value; })*
            }
        }
    };
}

entry! {
    identity {
        /// The identity it gives.
        spiffe_id: SpiffeId,
        /// An agent, a node alias, or `spiffe://TD/spire/server` for a node alias itself.
        parent_id: SpiffeId,
    }
    lists {
        /// What a workload must show, all of them; in the order given, without duplicates.
        selectors: Vec<Selector>,
        /// Trust domains whose bundles the workload gets.
        federates_with: Vec<TrustDomain>,
        /// DNS names of its X.509-SVIDs; the first is the subject's common name too.
        dns_names: Vec<String>,
    }
    values {
        /// TTL of X.509-SVIDs, 0 for the server's default.
        x509_svid_ttl: i32,
        /// TTL of JWT-SVIDs, 0 for the server's default.
        jwt_svid_ttl: i32,
        /// May use the administration API over TCP.
        admin: bool,
        /// May have a CA certificate signed.
        downstream: bool,
        /// When the entry ends; 0 is never.
        expires_at: i64,
        /// Whether the SVID is meant for an SVID store.
        store_svid: bool,
        /// Tells the workload which of its SVIDs this is.
        hint: String,
        /// Whether agents issue its X.509-SVID only when asked.
        disable_x509_svid_prefetch: bool,
        /// Whether its JWT-SVIDs carry a `jti`.
        jwt_svid_include_jti: bool,
    }
    own {
        /// The entry's ID; empty in a new one lets the store choose a UUID.
        id: String,
        /// Counts the updates.
        revision: i64,
        /// When it was created.
        created_at: i64,
    }
}

impl EntryRecord {
    /// A new entry with nothing but the required parts.
    #[must_use]
    pub fn new(spiffe_id: SpiffeId, parent_id: SpiffeId, selectors: Vec<Selector>) -> Self {
        Self { selectors, ..Self::begin(spiffe_id, parent_id) }
    }

    /// Whether it gives nothing and allows nothing any more at `now`, although it may be there until it is pruned.
    #[must_use]
    pub const fn has_ended(&self, now: i64) -> bool {
        self.expires_at > 0 && self.expires_at <= now
    }

    /// As it is stored when it is new: without duplicates, with an ID, created at `now`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn into_new(mut self, now: i64) -> Result<Self, StoreError> {
        self.dedupe();
        self.validate()?;
        if self.id.is_empty() {
            // `created_at` counts seconds. IDs that grow let agents put the older of two entries first all the same.
            self.id = Uuid::now_v7().to_string();
        }
        self.created_at = now;
        self.revision = 0;
        Ok(self)
    }

    /// With the fields that `mask` names as they are in `changes`, and one more revision.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn updated(mut self, changes: Self, mask: EntryMask) -> Result<Self, StoreError> {
        mask.apply(changes, &mut self);
        self.dedupe();
        self.validate()?;
        self.revision += 1;
        Ok(self)
    }

    /// Federates with that trust domain no more, in one more revision.
    pub fn dissociate(&mut self, trust_domain: &TrustDomain) {
        self.federates_with.retain(|name| name != trust_domain);
        self.revision += 1;
    }

    /// Whether it gives the same SPIFFE ID to the same workloads: SPIRE calls that similar, and keeps only one.
    #[must_use]
    pub fn is_similar_to(&self, other: &Self) -> bool {
        self.spiffe_id == other.spiffe_id
            && self.parent_id == other.parent_id
            && self.selectors.iter().collect::<HashSet<_>>() == other.selectors.iter().collect()
    }

    /// SPIRE's rules for an entry, and bounds on its lists.
    fn validate(&self) -> Result<(), StoreError> {
        let invalid = |what: &str| Err(StoreError::Invalid(format!("invalid registration entry: {what}")));
        if self.selectors.is_empty() {
            return invalid("missing selector list");
        }
        if self.selectors.iter().any(|s| s.kind.is_empty() || s.kind.contains(':') || s.value.is_empty()) {
            return invalid("a selector must be formatted as type:value, with no `:` in the type");
        }
        if self.id.len() > MAX_ENTRY_ID_BYTES {
            return invalid("entry ID too long");
        }
        if !self.id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
            return invalid("entry ID contains invalid characters");
        }
        if self.x509_svid_ttl < 0 || self.jwt_svid_ttl < 0 || self.expires_at < 0 {
            return invalid("a TTL or expiry is negative");
        }
        if self.hint.len() > MAX_HINT_BYTES {
            return invalid("hint is too long, max length is 1024 characters");
        }
        if self.longest_list() > MAX_LIST {
            return invalid("more than 1000 selectors, DNS names or federated trust domains");
        }
        if self.store_svid {
            if self.disable_x509_svid_prefetch {
                return invalid("specifying cache behaviour is incompatible with storable SVIDs");
            }
            let mut kinds = self.selectors.iter().map(|s| &s.kind);
            let first = kinds.next();
            if !kinds.all(|kind| Some(kind) == first) {
                return invalid("selector types must be the same when store SVID is enabled");
            }
        }
        Ok(())
    }
}

fn dedupe<T: Clone + Eq + std::hash::Hash>(list: &mut Vec<T>) {
    let mut seen = HashSet::with_capacity(list.len());
    list.retain(|item| seen.insert(item.clone()));
}

/// What became of a new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was stored, with its ID and creation time.
    New(EntryRecord),
    /// An entry with the same SPIFFE ID, parent ID and selectors (or the same entry ID) was there, and stays as it is.
    Similar(EntryRecord),
}
