//! Bundles and the journal.

use super::fixture::*;
use crate::store::*;

fn key(id: &str) -> JwtAuthority {
    JwtAuthority { key_id: id.to_owned(), spki_der: vec![9], expires_at: NOW, tainted: false }
}

pub async fn appending_keeps_what_is_there_and_counts_changes(f: Fixture) {
    let own = domain("demo.org");
    f.store.create_bundle(bundle("demo.org")).await.unwrap();
    assert_eq!(f.store.create_bundle(bundle("demo.org")).await.unwrap_err().code(), "already_exists");
    let root = X509Authority { der: vec![4], tainted: false };
    let append = |root: X509Authority| {
        f.store.modify_bundle(
            &own,
            Box::new(move |bundle| {
                bundle.append(vec![root], vec![key("k1")]);
                bundle.check_size(2, 1)
            }),
        )
    };
    let grown = append(root.clone()).await.unwrap();
    assert_eq!((grown.x509_authorities.len(), grown.jwt_authorities.len(), grown.sequence), (2, 1, 2));
    let refused = append(X509Authority { der: vec![5], tainted: false }).await.unwrap_err();
    assert_eq!(refused.code(), "invalid");
    assert_eq!(
        f.store.get_bundle(&own).await.unwrap(),
        Some(grown.clone()),
        "what is refused changes nothing"
    );
    let position = *f.store.changes().borrow();
    assert_eq!(append(root).await.unwrap(), grown);
    assert_eq!(*f.store.changes().borrow(), position, "no change, no event");
    let mut shrunk = f.store.get_bundle(&own).await.unwrap().unwrap();
    shrunk.retain(|root| root.der == [4], |_| false);
    assert_eq!((shrunk.x509_authorities.len(), shrunk.jwt_authorities.len(), shrunk.sequence), (1, 0, 3));
}

pub async fn the_three_ways_to_delete(f: Fixture) {
    let partner = domain("partner.org");
    let federated = || EntryRecord { federates_with: vec![domain("partner.org")], ..entry("/a", &["u:1"]) };
    f.store.set_bundle(bundle("partner.org")).await.unwrap();
    let entry = f.add(federated()).await;
    let refused = f.store.delete_bundle(&partner, DeleteMode::Restrict).await.unwrap_err();
    assert!(matches!(refused, StoreError::BundleInUse { entries: 1 }));

    f.store.delete_bundle(&partner, DeleteMode::Dissociate).await.unwrap();
    let kept = f.store.get_entry(&entry.id).await.unwrap().unwrap();
    assert_eq!(kept, EntryRecord { federates_with: vec![], revision: 1, ..entry.clone() });

    f.store.set_bundle(bundle("partner.org")).await.unwrap();
    f.update(EntryRecord { id: entry.id.clone(), ..federated() }, EntryMask::ALL).await.unwrap();
    f.store.delete_bundle(&partner, DeleteMode::Delete).await.unwrap();
    assert_eq!(f.store.get_entry(&entry.id).await.unwrap(), None);
    let gone = f.store.delete_bundle(&partner, DeleteMode::Restrict).await.unwrap_err();
    assert_eq!(gone.code(), "not_found");
}

pub async fn bundles_are_listed_by_name_in_pages(f: Fixture) {
    for name in ["c.org", "a.org", "b.org"] {
        f.store.set_bundle(bundle(name)).await.unwrap();
    }
    assert_eq!(f.store.count_bundles().await.unwrap(), 3);
    let first = f.store.list_bundles(PageRequest { size: 2, token: String::new() }).await.unwrap();
    let second = f.store.list_bundles(PageRequest { size: 2, token: first.next.clone() }).await.unwrap();
    assert_eq!(first.items, [bundle("a.org"), bundle("b.org")]);
    assert_eq!((second.items.as_slice(), second.next.as_str()), (&[bundle("c.org")][..], ""));
}

pub async fn the_journal_and_the_bundle_change_together(f: Fixture) {
    let own = domain("demo.org");
    assert_eq!(f.store.load_journal("ca").await.unwrap(), None);
    for (round, data) in [b"one".to_vec(), b"two".to_vec()].into_iter().enumerate() {
        let bundle = f
            .store
            .save_journal(
                "ca",
                data.clone(),
                &own,
                Box::new(move |bundle| {
                    bundle.append(vec![], vec![key(&format!("k{round}"))]);
                    Ok(())
                }),
            )
            .await
            .unwrap();
        assert_eq!(bundle.sequence, round as u64 + 1);
        assert_eq!(f.store.load_journal("ca").await.unwrap(), Some(data));
        assert_eq!(f.store.get_bundle(&own).await.unwrap(), Some(bundle));
    }
}

pub async fn of_many_changes_of_a_bundle_at_once_none_is_lost(f: Fixture) {
    let own = domain("demo.org");
    f.store.create_bundle(BundleRecord::empty(own.clone())).await.unwrap();
    let changes = (0..32).map(|n| {
        let key = key(&n.to_string());
        f.store.modify_bundle(
            &own,
            Box::new(move |bundle| {
                bundle.append(vec![], vec![key]);
                Ok(())
            }),
        )
    });
    assert!(futures_util::future::join_all(changes).await.iter().all(Result::is_ok));
    let bundle = f.store.get_bundle(&own).await.unwrap().unwrap();
    assert_eq!((bundle.jwt_authorities.len(), bundle.sequence), (32, 32));
}
