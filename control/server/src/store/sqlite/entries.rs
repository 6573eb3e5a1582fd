//! Registration entries, with their lists in tables of their own.

use rusqlite::{Connection, params, params_from_iter};
use svidecar_id::{SpiffeId, TrustDomain};

use super::{conditions, events, rows};
use crate::store::{
    error::StoreError,
    filter::{EntryFilter, Page, PageRequest},
    record::{Columns as _, Created, EntryMask, EntryRecord, Selector, Value},
    snapshot::EventKind,
};

/// Stores one entry, unless a similar one is there.
pub(super) fn create(connection: &Connection, entry: EntryRecord, now: i64) -> Result<Created, StoreError> {
    let has_id = !entry.id.is_empty();
    let entry = entry.into_new(now)?;
    if let Some(similar) = find_similar(connection, &entry)? {
        return Ok(Created::Similar(similar));
    }
    if has_id && let Some(same_id) = find(connection, &entry.id)? {
        return Ok(Created::Similar(same_id));
    }
    let (names, marks) = (rows::names::<EntryRecord>(""), rows::marks::<EntryRecord>());
    connection
        .prepare_cached(&format!("INSERT INTO entries ({names}) VALUES ({marks})"))?
        .execute(params_from_iter(entry.values()))?;
    let seq = connection.last_insert_rowid();
    write_selectors(connection, seq, &entry.selectors)?;
    write_dns_names(connection, seq, &entry.dns_names)?;
    write_federates_with(connection, seq, &entry.federates_with)?;
    events::append(connection, EventKind::Entry, &entry.id)?;
    Ok(Created::New(entry))
}

/// Sets the fields that `mask` names of the entry with the ID of `changes`.
pub(super) fn update(
    connection: &Connection,
    changes: EntryRecord,
    mask: EntryMask,
) -> Result<EntryRecord, StoreError> {
    let entry = find(connection, &changes.id)?.ok_or_else(|| StoreError::not_found("entry", &changes.id))?;
    let entry = entry.updated(changes, mask)?;
    rewrite(connection, &entry)?;
    Ok(entry)
}

/// Writes all of an entry over the one with its ID, and says so in the event log.
pub(super) fn rewrite(connection: &Connection, entry: &EntryRecord) -> Result<(), StoreError> {
    let (names, marks) = (rows::names::<EntryRecord>(""), rows::marks::<EntryRecord>());
    let sql = format!("UPDATE entries SET ({names}) = ({marks}) WHERE id = ? RETURNING seq");
    let id = Value::Text(entry.id.clone());
    let seq: i64 = connection
        .prepare_cached(&sql)?
        .query_row(params_from_iter(entry.values().iter().chain([&id])), |row| row.get(0))?;
    for table in ["entry_selectors", "entry_dns_names", "entry_federates_with"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE entry = ?"))?.execute([seq])?;
    }
    write_selectors(connection, seq, &entry.selectors)?;
    write_dns_names(connection, seq, &entry.dns_names)?;
    write_federates_with(connection, seq, &entry.federates_with)?;
    events::append(connection, EventKind::Entry, &entry.id)
}

/// Deletes the entries whose end is before `now`.
pub(super) fn prune(connection: &Connection, now: i64) -> Result<Vec<EntryRecord>, StoreError> {
    let ids: Vec<String> = connection
        .prepare_cached("SELECT id FROM entries WHERE expires_at > 0 AND expires_at < ? ORDER BY seq")?
        .query_map([now], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    ids.iter().map(|id| delete(connection, id)).collect()
}

/// The entry that is similar, if there is one.
fn find_similar(connection: &Connection, entry: &EntryRecord) -> Result<Option<EntryRecord>, StoreError> {
    // By ID and parent, which few entries share; a selector may be that of every entry there is.
    let names = rows::names::<EntryRecord>("");
    let sql = format!("SELECT seq, {names} FROM entries WHERE spiffe_id = ? AND parent_id = ? ORDER BY seq");
    let candidates = connection
        .prepare_cached(&sql)?
        .query_and_then([entry.spiffe_id.as_str(), entry.parent_id.as_str()], rows::record)?
        .collect::<Result<Vec<_>, _>>()?;
    for candidate in candidates {
        let (_, candidate) = complete(connection, candidate)?;
        if candidate.is_similar_to(entry) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// The entries directly below a parent.
pub(super) fn below(connection: &Connection, parent: &SpiffeId) -> Result<Vec<EntryRecord>, StoreError> {
    let filter = EntryFilter { parent_id: Some(parent.clone()), ..EntryFilter::default() };
    Ok(list(connection, &filter, &PageRequest::default())?.items)
}

/// Reads one entry by its ID.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<EntryRecord>, StoreError> {
    let sql = format!("SELECT seq, {} FROM entries WHERE id = ?", rows::names::<EntryRecord>(""));
    let found = connection.prepare_cached(&sql)?.query_and_then([id], rows::record)?.next().transpose()?;
    found.map(|found| complete(connection, found).map(|(_, entry)| entry)).transpose()
}

/// Reads all entries, in the order of their creation.
pub(super) fn all(connection: &Connection) -> Result<Vec<EntryRecord>, StoreError> {
    Ok(list(connection, &EntryFilter::default(), &PageRequest::default())?.items)
}

/// Deletes one entry and says so in the event log.
pub(super) fn delete(connection: &Connection, id: &str) -> Result<EntryRecord, StoreError> {
    let entry = find(connection, id)?.ok_or_else(|| StoreError::not_found("entry", id))?;
    connection.prepare_cached("DELETE FROM entries WHERE id = ?")?.execute([id])?;
    events::append(connection, EventKind::Entry, id)?;
    Ok(entry)
}

/// One page of the entries that pass the filter.
pub(super) fn list(
    connection: &Connection,
    filter: &EntryFilter,
    page: &PageRequest,
) -> Result<Page<EntryRecord>, StoreError> {
    rows::page(connection, "entries", conditions::entries(filter), page, complete)
}

/// How many entries pass the filter.
pub(super) fn count(connection: &Connection, filter: &EntryFilter) -> Result<u64, StoreError> {
    rows::count(connection, "entries", conditions::entries(filter))
}

/// Adds the lists.
fn complete(
    connection: &Connection,
    (seq, mut entry): (i64, EntryRecord),
) -> Result<(i64, EntryRecord), StoreError> {
    entry.selectors = connection
        .prepare_cached("SELECT type, value FROM entry_selectors WHERE entry = ? ORDER BY position")?
        .query_map([seq], rows::selector)?
        .collect::<Result<_, _>>()?;
    entry.dns_names = connection
        .prepare_cached("SELECT name FROM entry_dns_names WHERE entry = ? ORDER BY position")?
        .query_map([seq], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    entry.federates_with = connection
        .prepare_cached("SELECT trust_domain FROM entry_federates_with WHERE entry = ? ORDER BY position")?
        .query_and_then([seq], rows::trust_domain)?
        .collect::<Result<_, _>>()?;
    Ok((seq, entry))
}

fn write_selectors(connection: &Connection, seq: i64, selectors: &[Selector]) -> Result<(), StoreError> {
    let mut insert = connection
        .prepare_cached("INSERT INTO entry_selectors (entry, position, type, value) VALUES (?, ?, ?, ?)")?;
    for (position, selector) in (0_i64..).zip(selectors) {
        insert.execute(params![seq, position, selector.kind, selector.value])?;
    }
    Ok(())
}

fn write_dns_names(connection: &Connection, seq: i64, names: &[String]) -> Result<(), StoreError> {
    let mut insert =
        connection.prepare_cached("INSERT INTO entry_dns_names (entry, position, name) VALUES (?, ?, ?)")?;
    for (position, name) in (0_i64..).zip(names) {
        insert.execute(params![seq, position, name])?;
    }
    Ok(())
}

fn write_federates_with(
    connection: &Connection,
    seq: i64,
    trust_domains: &[TrustDomain],
) -> Result<(), StoreError> {
    let mut known = connection.prepare_cached("SELECT 1 FROM bundles WHERE trust_domain = ?")?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO entry_federates_with (entry, position, trust_domain) VALUES (?, ?, ?)",
    )?;
    for (position, trust_domain) in (0_i64..).zip(trust_domains) {
        if !known.exists([trust_domain.as_str()])? {
            return Err(StoreError::UnknownFederatedBundle { trust_domain: trust_domain.to_string() });
        }
        insert.execute(params![seq, position, trust_domain.as_str()])?;
    }
    Ok(())
}
