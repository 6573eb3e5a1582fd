//! What an agent has, what it should have, and the messages between the two.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use svidecar_api::svidecar::server::v1::WatchResponse;
use svidecar_id::{SpiffeId, TrustDomain};

use crate::{
    bundles,
    rpc::entry_fields,
    state::State,
    store::{BundleRecord, EntryRecord},
};

/// Most items and most bytes of one message; gRPC libraries take 4 MiB.
const MESSAGE_ITEMS: usize = 500;
const MESSAGE_BYTES: usize = 1 << 20;

/// What an agent is authorized for at one moment. Cheap to keep: records are shared.
#[derive(Clone, Default)]
pub struct View {
    /// Ordered by ID.
    entries: Vec<Arc<EntryRecord>>,
    /// Ordered by trust domain.
    bundles: Vec<Arc<BundleRecord>>,
}

impl View {
    /// The entries of the agent, our own bundle, and those that its entries federate with.
    pub fn of(state: &State, agent: &SpiffeId) -> Self {
        let entries = state.entries.of_agent(agent, state.clock.unix());
        let names: BTreeSet<&TrustDomain> = entries
            .iter()
            .flat_map(|entry| &entry.federates_with)
            .chain(std::iter::once(&state.trust_domain))
            .collect();
        let bundles = names.into_iter().filter_map(|name| state.entries.bundle(name)).collect();
        Self { entries, bundles }
    }

    /// How many entries there are.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// All of it, as the first change set of a stream.
    pub fn whole(&self) -> Difference {
        Difference { snapshot: true, ..Self::default().difference(self) }
    }

    /// What leads from this view to `now`.
    pub fn difference(&self, now: &Self) -> Difference {
        let (entries, deleted_entries) = changes(&self.entries, &now.entries, |entry| &entry.id);
        let (bundles, deleted_bundles) = changes(&self.bundles, &now.bundles, |bundle| &bundle.trust_domain);
        Difference {
            snapshot: false,
            entries,
            deleted_entries: deleted_entries.into(),
            bundles,
            deleted_bundles: deleted_bundles.iter().map(TrustDomain::to_string).collect(),
        }
    }

    /// Tells one content from another. It is neither secret nor stable across versions: a digest that does not
    /// match costs one snapshot.
    pub fn digest(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        for entry in &self.entries {
            (&entry.id, entry.revision, entry.created_at, &entry.spiffe_id, &entry.selectors).hash(&mut hash);
        }
        for bundle in &self.bundles {
            (&bundle.trust_domain, bundle.sequence, &bundle.x509_authorities, &bundle.jwt_authorities)
                .hash(&mut hash);
        }
        hash.finish()
    }
}

/// What is new or different, and the keys of what is gone, between two lists that are ordered by their keys.
fn changes<K: Ord + Clone, V: PartialEq>(
    before: &[Arc<V>],
    now: &[Arc<V>],
    key: impl Fn(&V) -> &K,
) -> (VecDeque<Arc<V>>, Vec<K>) {
    let (mut changed, mut gone) = (VecDeque::new(), Vec::new());
    let mut before = before.iter().peekable();
    for value in now {
        while let Some(old) = before.next_if(|old| key(old) < key(value)) {
            gone.push(key(old).clone());
        }
        let known = before.next_if(|old| key(old) == key(value));
        if known.is_none_or(|known| !Arc::ptr_eq(known, value) && known != value) {
            changed.push_back(Arc::clone(value));
        }
    }
    gone.extend(before.map(|old| key(old).clone()));
    (changed, gone)
}

/// One change set, handed out message by message.
#[derive(Default)]
pub struct Difference {
    snapshot: bool,
    entries: VecDeque<Arc<EntryRecord>>,
    deleted_entries: VecDeque<String>,
    bundles: VecDeque<Arc<BundleRecord>>,
    deleted_bundles: Vec<String>,
}

impl Difference {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.deleted_entries.is_empty()
            && self.bundles.is_empty()
            && self.deleted_bundles.is_empty()
    }

    /// The next message; an empty one when there is nothing to tell.
    pub fn next_message(&mut self) -> WatchResponse {
        let mut message = WatchResponse {
            snapshot: self.snapshot,
            deleted_bundles: std::mem::take(&mut self.deleted_bundles),
            ..WatchResponse::default()
        };
        // Bundles come first: an SVID is of no use before what verifies its peers.
        let mut room = Room { items: MESSAGE_ITEMS, bytes: MESSAGE_BYTES };
        fill(&mut room, &mut self.bundles, &mut message.bundles, |bundle| bundles::to_proto(bundle, None));
        fill(&mut room, &mut self.entries, &mut message.entries, entry_fields::to_proto);
        while room.items > 0 && room.bytes > 0 {
            let Some(id) = self.deleted_entries.pop_front() else { break };
            room.take(id.len());
            message.deleted_entry_ids.push(id);
        }
        message.more = !self.is_empty();
        message
    }
}

/// What still fits a message.
struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Moves items into the message while there is room; the last one may overdraw it.
fn fill<T, M: prost::Message>(
    room: &mut Room,
    from: &mut VecDeque<Arc<T>>,
    to: &mut Vec<M>,
    convert: impl Fn(&T) -> M,
) {
    while room.items > 0 && room.bytes > 0 {
        let Some(item) = from.pop_front() else { return };
        let sent = convert(&item);
        room.take(sent.encoded_len());
        to.push(sent);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::Selector;

    fn view(entries: &[(&str, i64)], bundles: &[(&str, u64)]) -> View {
        let id = SpiffeId::parse("spiffe://demo.org/x").unwrap();
        let entry = |name: &str, revision| {
            let selectors = vec![Selector::new("a", "b")];
            let entry = EntryRecord::new(id.clone(), id.clone(), selectors);
            Arc::new(EntryRecord { id: name.to_owned(), revision, ..entry })
        };
        let bundle = |name: &str, sequence| {
            let bundle = BundleRecord::empty(TrustDomain::parse(name).unwrap());
            Arc::new(BundleRecord { sequence, ..bundle })
        };
        let mut view = View {
            entries: entries.iter().map(|(name, revision)| entry(name, *revision)).collect(),
            bundles: bundles.iter().map(|(name, sequence)| bundle(name, *sequence)).collect(),
        };
        view.entries.sort_by(|a, b| a.id.cmp(&b.id));
        view
    }

    fn ids(message: &WatchResponse) -> Vec<&str> {
        message.entries.iter().map(|entry| entry.id.as_str()).collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = view(&[("kept", 0), ("changed", 0), ("gone", 0)], &[("a.org", 1), ("b.org", 1)]);
        let now = view(&[("kept", 0), ("changed", 1), ("new", 0)], &[("a.org", 2)]);
        let message = before.difference(&now).next_message();
        assert_eq!(ids(&message), ["changed", "new"]);
        assert_eq!(message.deleted_entry_ids, ["gone"]);
        assert_eq!(message.bundles.iter().map(|bundle| &bundle.trust_domain).collect::<Vec<_>>(), ["a.org"]);
        assert_eq!(message.deleted_bundles, ["b.org"]);
        assert!(!message.more && !message.snapshot);
        assert!(now.difference(&now.clone()).is_empty());
    }

    #[test]
    fn a_large_view_comes_in_messages_of_one_change_set() {
        let names: Vec<String> = (0..1201).map(|number| format!("{number:04}")).collect();
        let entries: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let mut whole = view(&entries, &[("a.org", 1)]).whole();
        let mut shape = Vec::new();
        loop {
            let message = whole.next_message();
            assert!(message.snapshot);
            shape.push((message.bundles.len(), message.entries.len()));
            if !message.more {
                break;
            }
        }
        assert_eq!(shape, [(1, 499), (0, 500), (0, 202)]);
    }

    #[test]
    fn the_digest_follows_the_content() {
        let digest = |entries: &[(&str, i64)]| view(entries, &[]).digest();
        assert_eq!(digest(&[("a", 0)]), digest(&[("a", 0)]));
        assert_ne!(digest(&[("a", 0)]), digest(&[("a", 1)]));
        assert_ne!(digest(&[("a", 0)]), digest(&[]));
    }
}
