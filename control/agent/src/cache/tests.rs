#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::*;
use crate::{
    entry::tests::entry,
    testing::{HOUR, bundle_of, ca_of, held, now, trust_domain},
};
use svidecar_authority::x509::X509Ca;

struct Fixture {
    ca: X509Ca,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        let ca = ca_of("demo.org");
        let cache = Cache::new(trust_domain(), [bundle_of(&ca)]);
        Self { ca, cache }
    }

    fn put(&mut self, entries: Vec<Entry>) -> Applied {
        self.cache.apply(Change { entries, ..Change::default() }, now())
    }

    /// Signs all that is due, as the signer would.
    fn sign(&mut self, at: SystemTime) -> Vec<String> {
        let due = self.cache.take_due(at, 100);
        let ids = due.iter().map(|entry| entry.id.to_string()).collect();
        let signed = due.into_iter().map(|entry| {
            let svid = held(&self.ca, entry.spiffe_id.path());
            (entry, svid)
        });
        let signed = signed.collect();
        self.cache.signed(signed, at, at);
        ids
    }
}

fn selectors(values: &[&str]) -> SelectorSet {
    values.iter().map(|value| Selector::new("unix", value)).collect()
}

fn ids(update: &Update) -> Vec<String> {
    let svids = update.x509.iter().flat_map(|message| &message.svids);
    svids.map(|svid| svid.spiffe_id.clone()).collect()
}

#[test]
fn an_entry_is_signed_at_once_and_pushed_to_those_it_matches() {
    let mut it = Fixture::new();
    let mut mine = it.cache.subscribe(&selectors(&["uid:1", "gid:1"]), now());
    let mut other = it.cache.subscribe(&selectors(&["uid:2"]), now());
    assert!(mine.borrow_and_update().entries.is_empty());

    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    assert_eq!(mine.borrow_and_update().pending, 1);
    assert_eq!(it.sign(now()), ["e1"]);
    assert!(mine.has_changed().unwrap());
    assert_eq!(ids(&mine.borrow_and_update()), ["spiffe://demo.org/a"]);
    assert_eq!(mine.borrow().pending, 0);
    assert!(!other.has_changed().unwrap());
    other.mark_unchanged();
}

/// H16, H18: all fields of an SVID are set, as DER.
#[test]
fn a_message_is_complete() {
    let mut it = Fixture::new();
    let federated = ca_of("partner.org");
    let partner = federated.trust_domain().clone();
    let mut change = Change { entries: vec![entry("e1", "/a", &["uid:1"])], ..Change::default() };
    change.entries[0].federates_with = vec![partner];
    change.entries[0].hint = "internal".into();
    change.bundles = vec![bundle_of(&federated)];
    it.cache.apply(change, now());
    it.sign(now());
    let update = it.cache.subscribe(&selectors(&["uid:1"]), now());
    let update = update.borrow();
    let message = update.x509.as_ref().unwrap();
    let svid = &message.svids[0];
    assert_eq!(svid.hint, "internal");
    assert_eq!(svid.bundle, it.ca.certificate().as_ref());
    svidecar_authority::key::PrivateKey::from_pkcs8_der(&svid.x509_svid_key).unwrap();
    assert_eq!(Bundle::certificates_from_der(&svid.x509_svid).unwrap().len(), 1);
    let partners = &message.federated_bundles["spiffe://partner.org"];
    assert_eq!(partners.as_slice(), federated.certificate().as_ref());
    // H19, H21: the own trust domain is in the bundle messages.
    assert_eq!(update.x509_bundles.bundles.len(), 2);
    assert!(update.x509_bundles.bundles.contains_key("spiffe://demo.org"));
    assert!(update.jwt_bundles.bundles.contains_key("spiffe://demo.org"));
}

#[test]
fn the_same_state_again_is_no_change() {
    let mut it = Fixture::new();
    let mut updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    updates.borrow_and_update();
    let change = Change {
        snapshot: true,
        entries: vec![entry("e1", "/a", &["uid:1"])],
        bundles: vec![bundle_of(&it.ca)],
        ..Change::default()
    };
    assert!(!it.cache.apply(change, now()).changed());
    assert!(!updates.has_changed().unwrap());
}

/// H24
#[test]
fn the_oldest_entry_stays_the_default_identity() {
    let mut it = Fixture::new();
    let aged = |id: &str, path: &str, created_at| Entry { created_at, ..entry(id, path, &["uid:1"]) };
    it.put(vec![aged("z", "/first", 10)]);
    it.put(vec![aged("a", "/second", 20)]);
    it.sign(now());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/first", "spiffe://demo.org/second"]);
}

#[test]
fn a_deleted_entry_is_withdrawn_and_a_snapshot_deletes_what_it_does_not_name() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"]), entry("e2", "/b", &["uid:1"])]);
    it.sign(now());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    let gone = Change { deleted_entries: vec!["e1".into()], ..Change::default() };
    assert_eq!(it.cache.apply(gone, now()).deleted, 1);
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/b"]);
    let empty = Change { snapshot: true, ..Change::default() };
    assert_eq!(it.cache.apply(empty, now()).deleted, 1);
    assert!(updates.borrow().entries.is_empty());
    assert!(updates.borrow().x509.is_none());
    assert_eq!(it.cache.next_due(), None);
}

#[test]
fn an_entry_that_names_another_identity_loses_its_svid_at_once() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    it.put(vec![Entry { revision: 1, ..entry("e1", "/b", &["uid:1"]) }]);
    assert!(updates.borrow().x509.is_none());
    assert_eq!(it.sign(now()), ["e1"]);
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/b"]);
}

#[test]
fn a_changed_entry_is_signed_again_and_serves_the_old_svid_meanwhile() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    it.put(vec![Entry { revision: 1, ..entry("e1", "/a", &["uid:1"]) }]);
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/a"]);
    assert_eq!(it.sign(now()), ["e1"]);
}

#[test]
fn an_entry_that_changed_while_it_was_signed_is_due_again() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    let taken = it.cache.take_due(now(), 10);
    it.put(vec![Entry { revision: 1, ..entry("e1", "/a", &["uid:1"]) }]);
    let svid = held(&it.ca, "/a");
    it.cache.signed(vec![(taken[0].clone(), svid)], now(), now());
    assert_eq!(it.sign(now()), ["e1"]);
    assert!(it.sign(now()).is_empty());
}

/// A second signature would be a second message, with another certificate for nothing.
#[test]
fn who_asks_while_an_entry_is_signed_waits_for_that_signature() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    let taken = it.cache.take_due(now(), 10);
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    assert!(it.cache.take_due(now(), 10).is_empty());
    it.cache.failed(&taken, "the server is away", now(), now());
    let taken = it.cache.take_due(now(), 10);
    let svid = held(&it.ca, "/a");
    it.cache.signed(vec![(taken[0].clone(), svid)], now(), now());
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/a"]);
    assert!(it.sign(now()).is_empty());
}

#[test]
fn renewal_is_due_around_half_life_and_not_before() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    let due = it.cache.next_due().unwrap().duration_since(now()).unwrap();
    assert!(due > HOUR.mul_f64(0.4) && due < HOUR.mul_f64(0.6), "{due:?}");
    assert!(it.sign(now() + HOUR.mul_f64(0.4)).is_empty());
    assert_eq!(it.sign(now() + HOUR.mul_f64(0.6)), ["e1"]);
}

#[test]
fn a_failure_is_told_and_tried_again_and_the_old_svid_serves_until_it_ends() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    let half = now() + HOUR.mul_f64(0.6);
    let taken = it.cache.take_due(half, 10);
    it.cache.failed(&taken, "the server is away", half, half + Duration::from_secs(10));
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/a"]);
    assert!(it.cache.take_due(half, 10).is_empty());
    it.cache.retry_now(half);
    assert_eq!(it.cache.take_due(half, 10).len(), 1);
    it.cache.failed(&taken, "the server is away", half, half + HOUR);
    // Its life is over before the next try: it is withdrawn, and tried again.
    let end = it.cache.next_due().unwrap();
    assert!(end < now() + HOUR + Duration::from_secs(1));
    assert_eq!(it.cache.take_due(end, 10).len(), 1);
    assert!(updates.borrow().x509.is_none());
    assert_eq!(updates.borrow().failure.as_deref(), Some("the server is away"));
}

#[test]
fn entries_without_prefetch_are_signed_when_a_workload_asks() {
    let mut it = Fixture::new();
    it.put(vec![Entry { no_prefetch: true, ..entry("e1", "/a", &["uid:1"]) }]);
    assert!(it.sign(now()).is_empty());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    assert_eq!(it.sign(now()), ["e1"]);
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/a"]);
}

#[test]
fn bundles_change_every_message_and_the_own_one_is_never_dropped() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    let next = ca_of("demo.org");
    let mut both = bundle_of(&it.ca);
    both.x509_authorities.push(next.certificate().clone());
    let change = Change { bundles: vec![both], ..Change::default() };
    assert!(it.cache.apply(change, now()).bundles);
    let expected = [it.ca.certificate().as_ref(), next.certificate().as_ref()].concat();
    assert_eq!(updates.borrow().x509.as_ref().unwrap().svids[0].bundle, expected);

    it.cache.apply(Change { snapshot: true, ..Change::default() }, now());
    assert!(it.cache.bundles().get(&trust_domain()).is_some());
}

#[test]
fn what_was_on_disk_is_served_unless_it_has_ended() {
    let mut it = Fixture::new();
    let good = held(&it.ca, "/a");
    let ended = held(&it.ca, "/b");
    it.cache.restore(entry("e1", "/a", &["uid:1"]), Some(good), now() + Duration::from_secs(60));
    it.cache.restore(entry("e2", "/b", &["uid:2"]), Some(ended), now() + 2 * HOUR);
    let one = it.cache.subscribe(&selectors(&["uid:1"]), now());
    assert_eq!(ids(&one.borrow()), ["spiffe://demo.org/a"]);
    let two = it.cache.subscribe(&selectors(&["uid:2"]), now());
    assert!(two.borrow().x509.is_none());
    assert_eq!(two.borrow().pending, 1);
}

/// The clock is two hours ahead for a second: nothing is gone, and what was served is served again.
#[test]
fn a_clock_that_was_ahead_takes_nothing_away() {
    let mut it = Fixture::new();
    let asleep = Entry { no_prefetch: true, ..entry("e2", "/b", &["uid:2"]) };
    it.put(vec![entry("e1", "/a", &["uid:1"]), asleep]);
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    drop(it.cache.subscribe(&selectors(&["uid:2"]), now()));
    it.cache.restore(
        Entry { no_prefetch: true, ..entry("e2", "/b", &["uid:2"]) },
        Some(held(&it.ca, "/b")),
        now(),
    );
    it.sign(now());
    let ahead = now() + 2 * HOUR;
    it.cache.doubt(true);
    it.cache.clock_jumped(ahead);
    let taken = it.cache.take_due(ahead, 10);
    assert_eq!(taken.len(), 1, "one that nobody asks for is not signed");
    assert!(updates.borrow().x509.is_none(), "what has ended by the clock is not given to anybody");
    it.cache.failed(&taken, "the server refuses", ahead, ahead + HOUR);
    assert_eq!(it.cache.held().filter(|(_, svid)| svid.is_some()).count(), 2, "and it is kept");

    it.cache.doubt(false);
    it.cache.clock_jumped(now());
    assert_eq!(ids(&updates.borrow()), ["spiffe://demo.org/a"]);
    let other = it.cache.subscribe(&selectors(&["uid:2"]), now());
    assert_eq!(ids(&other.borrow()), ["spiffe://demo.org/b"]);
    // What could not be signed at that time is tried now, and not in three hours.
    assert_eq!(it.cache.take_due(now(), 10).len(), 1);
}

/// Signed while the clock was ahead, or set back since: due now, not when the clock has caught up.
#[test]
fn an_svid_that_is_not_valid_yet_is_due_now() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    let before = now() - 3 * HOUR;
    it.cache.clock_jumped(before);
    let taken = it.cache.take_due(before, 10);
    assert_eq!(taken.len(), 1);
    // A server that goes wrong itself is asked again when what fails is.
    let again = before + Duration::from_secs(3);
    it.cache.signed(vec![(taken[0].clone(), held(&it.ca, "/a"))], before, again);
    assert_eq!(it.cache.next_due(), Some(again));
}

/// What a server with a wrong clock signs does not replace what is valid.
#[test]
fn an_svid_of_the_future_does_not_replace_one_of_now() {
    let mut it = Fixture::new();
    it.put(vec![entry("e1", "/a", &["uid:1"])]);
    it.sign(now());
    let updates = it.cache.subscribe(&selectors(&["uid:1"]), now());
    let before = Arc::clone(updates.borrow().x509.as_ref().unwrap());
    it.cache.retry_now(now());
    let due = it.cache.next_due().unwrap();
    let taken = it.cache.take_due(due, 10);
    let mut future = held(&it.ca, "/a");
    future.not_before = due + 26 * HOUR;
    future.not_after = due + 27 * HOUR;
    let again = due + Duration::from_secs(3);
    it.cache.signed(vec![(taken[0].clone(), future)], due, again);
    assert_eq!(*updates.borrow().x509.as_ref().unwrap(), before);
    assert!(updates.borrow().failure.as_ref().unwrap().contains("compare the server's clock"));
    assert_eq!(it.cache.next_due(), Some(again));
}

/// Got while the clock was two hours ahead: it would be renewed long after its end.
#[test]
fn an_svid_that_was_got_at_a_wrong_time_is_renewed_in_its_life() {
    let it = Fixture::new();
    for wrong in [now() + 2 * HOUR, now() - 2 * HOUR] {
        let mut svid = held(&it.ca, "/a");
        svid.obtained = wrong;
        let due = svid.renew_at();
        assert!(due > svid.not_before && due < now() + HOUR.mul_f64(0.6), "{due:?}");
    }
}
