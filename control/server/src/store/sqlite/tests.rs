//! What is only true of the store in a file, and the promises of every store.

#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::store::{
    Store,
    contract::{
        contract,
        fixture::{Fixture, NOW, Opening, bundle, entry},
    },
};

contract!(any);

async fn any() -> Fixture {
    let home = TempDir::new().unwrap();
    let path = file(&home);
    let open = move || -> Opening {
        let path = path.clone();
        Box::pin(async move { Arc::new(SqliteStore::open(&path).await.unwrap()) as Arc<dyn Store> })
    };
    Fixture::new(home, Box::new(open)).await
}

fn file(home: &TempDir) -> PathBuf {
    home.path().join("datastore.sqlite3")
}

/// A store, and the directory that goes with it.
async fn open() -> (TempDir, SqliteStore) {
    let home = TempDir::new().unwrap();
    let store = SqliteStore::open(&file(&home)).await.unwrap();
    (home, store)
}

/// Adds an entry that must be new.
async fn add(store: &SqliteStore, entry: EntryRecord) -> EntryRecord {
    match store.create_entries(vec![entry], NOW).await.unwrap().remove(0).unwrap() {
        Created::New(entry) => entry,
        Created::Similar(entry) => panic!("similar to {entry:?}"),
    }
}

/// A process that dies in the middle of a transaction leaves its journal behind, but nothing of the transaction.
#[tokio::test]
async fn half_a_transaction_is_none() {
    let (home, store) = open().await;
    let kept = add(&store, entry("/kept", &["u:1"])).await;
    drop(store);

    let dying = Connection::open(file(&home)).unwrap();
    dying
        .execute_batch(
            "BEGIN IMMEDIATE; DELETE FROM entries; INSERT INTO events (kind, key) VALUES (1, 'x');",
        )
        .unwrap();
    dying.cache_flush().unwrap();
    // The files as the dead process would leave them.
    let crashed = home.path().join("crashed");
    fs::create_dir(&crashed).unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("datastore.sqlite3{suffix}");
        fs::copy(home.path().join(&name), crashed.join(&name)).unwrap();
    }
    assert!(
        fs::metadata(crashed.join("datastore.sqlite3-wal")).unwrap().len() > 0,
        "nothing was written: no test"
    );

    let store = SqliteStore::open(&crashed.join("datastore.sqlite3")).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.position, snapshot.entries), (1, vec![kept]));
}

/// As SQLite does by itself after some errors of the disk.
#[tokio::test]
async fn a_transaction_that_sqlite_undid_is_not_said_to_be_kept() {
    let (_home, store) = open().await;
    let lost = store.write(|connection| Ok(connection.execute_batch("ROLLBACK")?)).await.unwrap_err();
    assert_eq!(lost.code(), "store_commit");
    assert!(lost.to_string().contains("SQLite undid the transaction"), "{lost}");
    add(&store, entry("/next", &["u:1"])).await;
}

/// A container with a read-only root has no directory for temporary files.
#[tokio::test]
async fn temporary_tables_stay_in_memory() {
    let (_home, store) = open().await;
    let kind = store.write(|c| Ok(c.query_row("PRAGMA temp_store", [], |row| row.get::<_, i64>(0))?)).await;
    assert_eq!(kind.unwrap(), 2);
}

/// Killed between the old database and the restored one: no server begins with an empty one, and the restore may be done again.
#[tokio::test]
async fn a_restore_that_was_cut_short_is_not_taken_for_a_new_server() {
    let (home, store) = open().await;
    let kept = add(&store, entry("/kept", &["u:1"])).await;
    let copy = store.back_up().await.unwrap();
    drop(store);
    let (path, aside) = (file(&home), home.path().join("aside"));
    fs::create_dir(&aside).unwrap();
    let killed = SqliteStore::restore(&path, &copy, &aside, || Err(StoreError::Closed));
    assert_eq!(killed.unwrap_err().code(), "store_closed");
    let refused = SqliteStore::open(&path).await.err().unwrap().to_string();
    assert!(refused.contains("`svidecar-server restore` again"), "{refused}");
    SqliteStore::restore(&path, &copy, &aside, || Ok::<_, StoreError>(())).unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().entries, [kept]);
}

#[tokio::test]
async fn one_server_at_a_time() {
    let (home, _store) = open().await;
    let refused = SqliteStore::open(&file(&home)).await.err().unwrap();
    assert_eq!(refused.code(), "store_in_use");
    assert!(refused.to_string().contains("in use by another svidecar-server"));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let (home, store) = open().await;
    drop(store);
    Connection::open(file(&home)).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let refused = SqliteStore::open(&file(&home)).await.err().unwrap();
    assert!(matches!(refused, StoreError::NewerSchema { found: 999, .. }));
}

#[tokio::test]
async fn only_the_owner_may_read_it() {
    let home = TempDir::new().unwrap();
    let data = home.path().join("new").join("data");
    let store = SqliteStore::open(&data.join("datastore.sqlite3")).await.unwrap();
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
    let home = TempDir::new().unwrap();
    let path = file(&home);
    fs::write(&path, b"this is not a database, but somebody may want it back").unwrap();
    assert!(SqliteStore::open(&path).await.is_err());
    assert!(fs::read(&path).unwrap().starts_with(b"this is not"));
}

/// A failing piece of work in a batch takes neither its own half nor its neighbours with it.
#[tokio::test]
async fn neighbours_in_a_batch_do_not_touch_each_other() {
    let (_home, store) = open().await;
    let store = Arc::new(store);
    let calls = (0..40).map(|n| {
        let store = Arc::clone(&store);
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
        let found = store.load_journal(&n.to_string()).await.unwrap().is_some();
        assert_eq!(found, n % 2 == 1, "{n}");
    }
}
