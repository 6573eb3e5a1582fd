//! Entries: creating, changing, deleting.

use super::fixture::*;
use crate::store::*;

pub async fn an_entry_comes_back_as_it_was_given_with_id_and_time(f: Fixture) {
    f.store.set_bundle(bundle("partner.org")).await.unwrap();
    let given = EntryRecord {
        x509_svid_ttl: 60,
        jwt_svid_ttl: 30,
        federates_with: vec![domain("partner.org")],
        admin: true,
        downstream: true,
        expires_at: NOW + 5,
        dns_names: vec!["b.local".to_owned(), "a.local".to_owned()],
        store_svid: true,
        hint: "internal".to_owned(),
        jwt_svid_include_jti: true,
        ..entry("/shop", &["unix:uid:1000", "unix:path:/bin/a:b"])
    };
    let stored = f.add(given.clone()).await;
    assert_eq!(stored, EntryRecord { id: stored.id.clone(), created_at: NOW, ..given });
    assert_eq!(stored.id.len(), 36);
    assert_eq!(f.store.get_entry(&stored.id).await.unwrap(), Some(stored.clone()));
    assert_eq!(f.store.get_entries(vec!["none".to_owned(), stored.id.clone()]).await.unwrap(), [stored]);
}

pub async fn a_similar_entry_is_returned_and_not_stored_twice(f: Fixture) {
    let first = f.add(entry("/shop", &["unix:uid:1", "unix:gid:2"])).await;
    let again = entry("/shop", &["unix:gid:2", "unix:uid:1"]);
    assert_eq!(f.create(again, NOW + 9).await.unwrap(), Created::Similar(first.clone()));
    let same_id = EntryRecord { id: first.id.clone(), ..entry("/other", &["unix:uid:1"]) };
    assert_eq!(f.create(same_id, NOW).await.unwrap(), Created::Similar(first));
    f.add(entry("/shop", &["unix:uid:1"])).await;
    assert_eq!(f.entry_count().await, 2);
}

pub async fn what_breaks_a_rule_is_refused_and_keeps_nothing_else_out(f: Fixture) {
    let base = entry("/shop", &["unix:uid:1"]);
    let bad = [
        EntryRecord { selectors: vec![], ..base.clone() },
        EntryRecord { selectors: vec![Selector::new("un:ix", "x")], ..base.clone() },
        EntryRecord { id: "no spaces".to_owned(), ..base.clone() },
        EntryRecord { id: "a".repeat(256), ..base.clone() },
        EntryRecord { x509_svid_ttl: -1, ..base.clone() },
        EntryRecord { jwt_svid_ttl: -1, ..base.clone() },
        EntryRecord { hint: "h".repeat(1025), ..base.clone() },
        EntryRecord { dns_names: (0..1001).map(|n| n.to_string()).collect(), ..base.clone() },
        EntryRecord { store_svid: true, selectors: selectors(&["a:1", "b:2"]), ..base.clone() },
        EntryRecord { federates_with: vec![domain("unknown.org")], ..base.clone() },
    ];
    let count = bad.len();
    let mut batch = bad.to_vec();
    batch.push(base);
    let results = f.store.create_entries(batch, NOW).await.unwrap();
    assert!(results[..count].iter().all(Result::is_err), "{results:?}");
    assert!(matches!(results[count], Ok(Created::New(_))));
    assert_eq!(f.entry_count().await, 1);
    assert!(matches!(
        &results[count - 1],
        Err(StoreError::UnknownFederatedBundle { trust_domain }) if trust_domain == "unknown.org"
    ));
}

pub async fn an_update_sets_only_what_the_mask_names(f: Fixture) {
    let before = f.add(EntryRecord { hint: "old".to_owned(), ..entry("/shop", &["unix:uid:1"]) }).await;
    let changes = EntryRecord {
        id: before.id.clone(),
        hint: "new".to_owned(),
        dns_names: vec!["x".to_owned()],
        ..entry("/moved", &["unix:uid:2"])
    };
    let mask = EntryMask { hint: true, selectors: true, ..EntryMask::default() };
    let after = f.update(changes.clone(), mask).await.unwrap();
    let expected = EntryRecord {
        hint: "new".to_owned(),
        selectors: selectors(&["unix:uid:2"]),
        revision: 1,
        ..before.clone()
    };
    assert_eq!(after, expected);
    assert_eq!(f.store.get_entry(&before.id).await.unwrap(), Some(expected));

    let whole = f.update(changes.clone(), EntryMask::ALL).await.unwrap();
    assert_eq!(whole, EntryRecord { revision: 2, created_at: NOW, ..changes });
    let empty = EntryRecord { selectors: vec![], ..whole.clone() };
    assert!(f.update(empty, EntryMask::ALL).await.is_err());
    assert_eq!(f.store.get_entry(&before.id).await.unwrap(), Some(whole));
    let missing = f.update(entry("/a", &["a:b"]), EntryMask::ALL).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "entry", .. })));
}

pub async fn deleting_and_ending(f: Fixture) {
    let forever = f.add(entry("/a", &["a:1"])).await;
    let ended = f.add(EntryRecord { expires_at: NOW - 1, ..entry("/b", &["b:1"]) }).await;
    let running = f.add(EntryRecord { expires_at: NOW, ..entry("/c", &["c:1"]) }).await;
    assert_eq!(f.store.prune_entries(NOW).await.unwrap(), [ended]);
    let results = f.store.delete_entries(vec!["none".to_owned(), running.id.clone()]).await.unwrap();
    assert!(matches!(results[0], Err(StoreError::NotFound { .. })));
    assert_eq!(results[1].as_ref().unwrap(), &running);
    assert_eq!(f.store.snapshot().await.unwrap().entries, std::slice::from_ref(&forever));
    assert_eq!(f.delete(&forever.id).await.unwrap(), forever);
}

/// All of them share a selector, as the workloads of a namespace do: that must not make each dearer than the one before.
pub async fn ten_thousand_entries_in_one_call(f: Fixture) {
    let entries: Vec<_> =
        (0..10_000).map(|n| entry(&format!("/w/{n}"), &[&format!("unix:uid:{n}"), "k8s:ns:prod"])).collect();
    let results = f.store.create_entries(entries, NOW).await.unwrap();
    assert!(results.iter().all(|result| matches!(result, Ok(Created::New(_)))));
    assert_eq!(f.store.snapshot().await.unwrap().entries.len(), 10_000);
}

/// Each counts, whoever comes at the same time, and each is an event.
pub async fn of_many_updates_at_once_none_is_lost(f: Fixture) {
    const UPDATES: usize = 32;
    let before = f.add(entry("/shop", &["u:1"])).await;
    let updates = (0..UPDATES).map(|n| {
        let changes = EntryRecord { hint: n.to_string(), ..before.clone() };
        f.update(changes, EntryMask { hint: true, ..EntryMask::default() })
    });
    let mut revisions: Vec<_> = futures_util::future::join_all(updates)
        .await
        .into_iter()
        .map(|entry| entry.unwrap().revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=UPDATES as i64).collect::<Vec<_>>());
    assert_eq!(f.store.latest_position().await.unwrap(), 1 + UPDATES as u64);
}
