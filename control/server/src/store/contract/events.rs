//! The event log.

use std::sync::Arc;

use super::fixture::*;
use crate::store::*;

fn event(position: u64, kind: EventKind, key: &str) -> Event {
    Event { position, kind, key: key.to_owned() }
}

pub async fn every_change_is_in_the_log_once_and_in_order(f: Fixture) {
    let mut changes = f.store.changes();
    let entry = f.add(entry("/a", &["u:1"])).await;
    f.store.put_agent(agent("/spire/agent/1"), None).await.unwrap();
    f.store.set_bundle(bundle("b.org")).await.unwrap();
    f.store.set_bundle(bundle("b.org")).await.unwrap();
    f.delete(&entry.id).await.unwrap();
    assert!(f.delete("none").await.is_err());
    changes.changed().await.unwrap();
    assert_eq!(*changes.borrow(), 4);
    let expected = [
        event(1, EventKind::Entry, &entry.id),
        event(2, EventKind::Agent, "spiffe://demo.org/spire/agent/1"),
        event(3, EventKind::Bundle, "b.org"),
        event(4, EventKind::Entry, &entry.id),
    ];
    assert_eq!(f.store.events_after(0, 100).await.unwrap(), expected);
    assert_eq!(f.store.events_after(1, 2).await.unwrap(), expected[1..3]);
    assert!(f.store.events_after(4, 100).await.unwrap().is_empty());
    assert_eq!(f.store.snapshot().await.unwrap().position, 4);
}

pub async fn a_reader_behind_the_pruned_part_is_told_so(f: Fixture) {
    for n in 0..4 {
        f.add(entry(&format!("/{n}"), &["u:1"])).await;
    }
    assert_eq!(f.store.prune_events(2).await.unwrap(), 2);
    let refused = f.store.events_after(1, 100).await.unwrap_err();
    assert!(matches!(refused, StoreError::EventsPruned { asked: 1, oldest: 3 }));
    assert_eq!(f.store.events_after(2, 100).await.unwrap().len(), 2);
    assert_eq!(f.store.prune_events(0).await.unwrap(), 2);
    assert!(f.store.events_after(3, 100).await.is_err());
    assert!(f.store.events_after(4, 100).await.unwrap().is_empty());
    f.add(entry("/4", &["u:1"])).await;
    assert_eq!(f.store.events_after(4, 100).await.unwrap()[0].position, 5);
}

/// Whoever asks how far the log goes may wait for the followers to get there.
pub async fn the_latest_position_is_that_of_the_last_commit_and_followers_hear_of_it(f: Fixture) {
    assert_eq!(f.store.latest_position().await.unwrap(), 0);
    for position in 1..4 {
        f.add(entry(&format!("/{position}"), &["u:1"])).await;
        assert_eq!(f.store.latest_position().await.unwrap(), position);
        assert_eq!(*f.store.changes().borrow(), position);
    }
    f.store.prune_events(0).await.unwrap();
    assert_eq!(f.store.latest_position().await.unwrap(), 3);
}

pub async fn what_was_answered_is_there_after_opening_again(f: Fixture) {
    let entry = f.add(entry("/a", &["u:1"])).await;
    let f = f.reopen().await;
    assert_eq!(f.store.get_entry(&entry.id).await.unwrap(), Some(entry));
    assert_eq!((*f.store.changes().borrow(), f.store.latest_position().await.unwrap()), (1, 1));
    f.add(self::entry("/b", &["u:1"])).await;
    assert_eq!(f.store.events_after(1, 100).await.unwrap()[0].position, 2, "positions go on");
}

/// Readers follow the log while many write. What they see is whole: each position once, none skipped, and
/// every object is there by the time its event is.
pub async fn a_follower_sees_every_commit_of_concurrent_writers_in_order(f: Fixture) {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let store = Arc::clone(&f.store);
    let follower = tokio::task::spawn(async move {
        let mut changes = store.changes();
        let mut seen = 0;
        while seen < (WRITERS * EACH) as u64 {
            changes.wait_for(|latest| *latest > seen).await.unwrap();
            for event in store.events_after(seen, 7).await.unwrap() {
                assert_eq!(event.position, seen + 1);
                assert!(store.get_entry(&event.key).await.unwrap().is_some());
                seen = event.position;
            }
        }
    });
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&f.store);
        tokio::task::spawn(async move {
            for n in 0..EACH {
                store.create_entries(vec![entry(&format!("/{writer}/{n}"), &["u:1"])], NOW).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    follower.await.unwrap();
}
