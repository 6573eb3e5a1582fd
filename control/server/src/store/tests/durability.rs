use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

#[tokio::test]
async fn what_was_answered_is_there_after_opening_again() {
    let f = fixture().await;
    let entry = f.add(entry("/a", &["u:1"])).await;
    let (path, Fixture { store, directory: _kept }) = (f.path(), f);
    drop(store);
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.get_entry(&entry.id).await.unwrap(), Some(entry));
    assert_eq!(*store.changes().borrow(), 1, "positions go on");
}

/// A process that dies in the middle of a transaction leaves its journal behind, but nothing of the transaction.
#[tokio::test]
async fn half_a_transaction_is_none() {
    let f = fixture().await;
    let kept = f.add(entry("/kept", &["u:1"])).await;
    let (path, Fixture { store, directory }) = (f.path(), f);
    drop(store);

    let dying = rusqlite::Connection::open(&path).unwrap();
    dying
        .execute_batch(
            "BEGIN IMMEDIATE; DELETE FROM entries; INSERT INTO events (kind, key) VALUES (1, 'x');",
        )
        .unwrap();
    dying.cache_flush().unwrap();
    // The files as the dead process would leave them.
    let crashed = directory.path().join("crashed");
    fs::create_dir(&crashed).unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("datastore.sqlite3{suffix}");
        fs::copy(directory.path().join(&name), crashed.join(&name)).unwrap();
    }
    assert!(
        fs::metadata(crashed.join("datastore.sqlite3-wal")).unwrap().len() > 0,
        "nothing was written: no test"
    );

    let store = Store::open(&crashed.join("datastore.sqlite3")).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.position, snapshot.entries), (1, vec![kept]));
}

/// As SQLite does by itself after some errors of the disk.
#[tokio::test]
async fn a_transaction_that_sqlite_undid_is_not_said_to_be_kept() {
    let f = fixture().await;
    let lost = f.store.write(|connection| Ok(connection.execute_batch("ROLLBACK")?)).await.unwrap_err();
    assert_eq!(lost.code(), "store_commit");
    assert!(lost.to_string().contains("SQLite undid the transaction"), "{lost}");
    f.add(entry("/next", &["u:1"])).await;
}

/// A container with a read-only root has no directory for temporary files.
#[tokio::test]
async fn temporary_tables_stay_in_memory() {
    let f = fixture().await;
    let kind = f.store.write(|c| Ok(c.query_row("PRAGMA temp_store", [], |row| row.get::<_, i64>(0))?)).await;
    assert_eq!(kind.unwrap(), 2);
}

#[tokio::test]
async fn one_server_at_a_time() {
    let f = fixture().await;
    let refused = Store::open(&f.path()).await.err().unwrap();
    assert_eq!(refused.code(), "store_in_use");
    assert!(refused.to_string().contains("in use by another svidecar-server"));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let f = fixture().await;
    let (path, Fixture { store, directory: _kept }) = (f.path(), f);
    drop(store);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let refused = Store::open(&path).await.err().unwrap();
    assert!(matches!(refused, StoreError::NewerSchema { found: 999, .. }));
}

#[tokio::test]
async fn only_the_owner_may_read_it() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("new").join("data");
    let store = Store::open(&data.join("datastore.sqlite3")).await.unwrap();
    store.set_bundle(bundle("a.org")).await.unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn what_is_no_database_is_an_error_and_is_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("datastore.sqlite3");
    fs::write(&path, b"this is not a database, but somebody may want it back").unwrap();
    assert!(Store::open(&path).await.is_err());
    assert!(fs::read(&path).unwrap().starts_with(b"this is not"));
}

/// A failing piece of work in a batch takes neither its own half nor its neighbours with it.
#[tokio::test]
async fn neighbours_in_a_batch_do_not_touch_each_other() {
    let f = fixture().await;
    let calls = (0..40).map(|n| {
        let store = f.store.clone();
        async move {
            store
                .write(move |connection| {
                    connection.execute("INSERT INTO ca_journals VALUES (?, x'00')", [n.to_string()])?;
                    if n % 2 == 0 { Err(StoreError::Invalid("undo".to_owned())) } else { Ok(n) }
                })
                .await
        }
    });
    let outcomes = futures_util::future::join_all(calls).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 20);
    for n in 0..40 {
        let found = f.store.load_journal(&n.to_string()).await.unwrap().is_some();
        assert_eq!(found, n % 2 == 1, "{n}");
    }
}
