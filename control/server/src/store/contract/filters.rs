//! Listings of entries: filters and pages.

use super::fixture::*;
use crate::store::*;

async fn paths(f: &Fixture, filter: EntryFilter) -> Vec<String> {
    let count = f.store.count_entries(filter.clone()).await.unwrap();
    let page = f.store.list_entries(filter, PageRequest::default()).await.unwrap();
    assert_eq!(count, page.items.len() as u64);
    assert_eq!(page.next, "");
    page.items.iter().map(|entry| entry.spiffe_id.path().to_owned()).collect()
}

pub async fn selectors_match_in_the_four_ways(f: Fixture) {
    for (path, list) in
        [("/1", &["a:1"][..]), ("/12", &["a:1", "a:2"]), ("/123", &["a:1", "a:2", "a:3"]), ("/4", &["a:4"])]
    {
        f.add(entry(path, list)).await;
    }
    // The value of one selector and the type of another must not be mixed up.
    f.add(entry("/x", &["a:x", "x:2"])).await;
    for (how, expected) in [
        (Match::Exact, &["/12"][..]),
        (Match::Subset, &["/1", "/12"]),
        (Match::Superset, &["/12", "/123"]),
        (Match::Any, &["/1", "/12", "/123"]),
    ] {
        let asked = selectors(&["a:2", "a:1", "a:2"]);
        let filter = EntryFilter { selectors: Some((how, asked)), ..EntryFilter::default() };
        assert_eq!(paths(&f, filter).await, expected, "{how:?}");
    }
}

pub async fn trust_domains_match_in_the_four_ways(f: Fixture) {
    for name in ["a.org", "b.org", "c.org"] {
        f.store.set_bundle(bundle(name)).await.unwrap();
    }
    for (path, names) in
        [("/0", &[][..]), ("/a", &["a.org"]), ("/ab", &["a.org", "b.org"]), ("/c", &["c.org"])]
    {
        let federates_with = names.iter().map(|name| domain(name)).collect();
        f.add(EntryRecord { federates_with, ..entry(path, &["u:1"]) }).await;
    }
    for (how, expected) in [
        (Match::Exact, &["/a"][..]),
        (Match::Subset, &["/a"]),
        (Match::Superset, &["/a", "/ab"]),
        (Match::Any, &["/a", "/ab"]),
    ] {
        let filter =
            EntryFilter { federates_with: Some((how, vec![domain("a.org")])), ..EntryFilter::default() };
        assert_eq!(paths(&f, filter).await, expected, "{how:?}");
    }
}

pub async fn the_other_filters_and_their_sum(f: Fixture) {
    f.add(EntryRecord { hint: "h".to_owned(), ..entry("/a", &["u:1"]) }).await;
    f.add(EntryRecord { downstream: true, ..entry("/a", &["u:2"]) }).await;
    f.add(EntryRecord { parent_id: id("/elsewhere"), ..entry("/b", &["u:1"]) }).await;
    let of = EntryFilter::default;
    assert_eq!(paths(&f, EntryFilter { spiffe_id: Some(id("/a")), ..of() }).await, ["/a", "/a"]);
    assert_eq!(paths(&f, EntryFilter { parent_id: Some(id("/elsewhere")), ..of() }).await, ["/b"]);
    assert_eq!(paths(&f, EntryFilter { hint: Some("h".to_owned()), ..of() }).await, ["/a"]);
    assert_eq!(paths(&f, EntryFilter { downstream: Some(false), ..of() }).await, ["/a", "/b"]);
    let all = EntryFilter {
        spiffe_id: Some(id("/a")),
        parent_id: Some(id("/node")),
        selectors: Some((Match::Any, selectors(&["u:2"]))),
        downstream: Some(true),
        ..of()
    };
    assert_eq!(paths(&f, all).await, ["/a"]);
}

pub async fn pages_follow_each_other_without_gap_or_repetition(f: Fixture) {
    for n in 0..5 {
        f.add(entry(&format!("/{n}"), &["u:1"])).await;
    }
    let (mut seen, mut token, mut sizes) = (Vec::new(), String::new(), Vec::new());
    loop {
        let page =
            f.store.list_entries(EntryFilter::default(), PageRequest { size: 2, token }).await.unwrap();
        sizes.push(page.items.len());
        seen.extend(page.items.into_iter().map(|entry| entry.spiffe_id.path().to_owned()));
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(seen, ["/0", "/1", "/2", "/3", "/4"]);
    let bad = PageRequest { size: 2, token: "x".to_owned() };
    let refused = f.store.list_entries(EntryFilter::default(), bad).await;
    assert!(matches!(refused, Err(StoreError::BadPageToken(_))));
}

/// Every set of up to four of the selectors `u:0` to `u:3`, as bits.
const SETS: u8 = 16;

fn of_bits(bits: u8) -> Vec<Selector> {
    (0..4).filter(|n| bits >> n & 1 == 1).map(|n| Selector::new("u", n.to_string())).collect()
}

/// The four ways against their definition, over every pair of sets.
pub async fn matching_is_what_set_theory_says(f: Fixture) {
    let entries =
        (1..SETS).map(|bits| EntryRecord { selectors: of_bits(bits), ..entry(&format!("/{bits}"), &[]) });
    f.store.create_entries(entries.collect(), NOW).await.unwrap();
    for asked in 1..SETS {
        for (how, holds) in [
            (Match::Exact, (|has, asked| has == asked) as fn(u8, u8) -> bool),
            (Match::Subset, |has, asked| has & !asked == 0),
            (Match::Superset, |has, asked| asked & !has == 0),
            (Match::Any, |has, asked| has & asked != 0),
        ] {
            let filter = EntryFilter { selectors: Some((how, of_bits(asked))), ..EntryFilter::default() };
            let expected: Vec<_> =
                (1..SETS).filter(|has| holds(*has, asked)).map(|has| format!("/{has}")).collect();
            assert_eq!(paths(&f, filter).await, expected, "{how:?} {asked:b}");
        }
    }
}
