//! Registration entries: creating, reading, deleting, ending.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use svidecar_id::{SpiffeId, TrustDomain};
use uuid::Uuid;

use super::{
    Created, EntryFilter, EntryRecord, EventKind, Page, PageRequest, Selector, Store, StoreError,
    entry_filter, events, writer::isolated,
};

/// The columns that [`header`] reads, in its order.
const COLUMNS: &str = "seq, id, spiffe_id, parent_id, x509_svid_ttl, jwt_svid_ttl, admin, downstream, expires_at, \
     revision, store_svid, hint, created_at, disable_x509_svid_prefetch, jwt_svid_include_jti";

impl Store {
    /// Stores new entries, each on its own: one that fails does not keep the others out. `now` becomes their
    /// creation time (Unix seconds).
    ///
    /// # Errors
    /// Per entry: [`StoreError::Invalid`], [`StoreError::UnknownFederatedBundle`]; for all: the commit failed.
    pub async fn create_entries(
        &self,
        entries: Vec<EntryRecord>,
        now: i64,
    ) -> Result<Vec<Result<Created, StoreError>>, StoreError> {
        self.write(move |connection| {
            Ok(entries
                .into_iter()
                .map(|entry| isolated(connection, || create(connection, entry, now)))
                .collect())
        })
        .await
    }

    /// Stores one new entry.
    ///
    /// # Errors
    /// As [`Self::create_entries`].
    pub async fn create_entry(&self, entry: EntryRecord, now: i64) -> Result<Created, StoreError> {
        self.write(move |connection| create(connection, entry, now)).await
    }

    /// The entry with that ID.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get_entry(&self, id: &str) -> Result<Option<EntryRecord>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| find(connection, &id)).await
    }

    /// Those of the entries that exist, in the order asked.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get_entries(&self, ids: Vec<String>) -> Result<Vec<EntryRecord>, StoreError> {
        self.read(move |connection| ids.iter().filter_map(|id| find(connection, id).transpose()).collect())
            .await
    }

    /// One page of the entries that pass the filter, in the order of their creation.
    ///
    /// # Errors
    /// [`StoreError::BadPageToken`], or the database cannot be read.
    pub async fn list_entries(
        &self,
        filter: EntryFilter,
        page: PageRequest,
    ) -> Result<Page<EntryRecord>, StoreError> {
        self.read(move |connection| list(connection, &filter, &page)).await
    }

    /// How many entries pass the filter.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_entries(&self, filter: EntryFilter) -> Result<u64, StoreError> {
        self.read(move |connection| {
            let (condition, values) = filter.condition();
            let sql = format!("SELECT count(*) FROM entries e WHERE {condition}");
            let count: i64 = connection
                .prepare_cached(&sql)?
                .query_row(rusqlite::params_from_iter(values), |row| row.get(0))?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    /// Deletes an entry and returns what it was.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_entry(&self, id: &str) -> Result<EntryRecord, StoreError> {
        let id = id.to_owned();
        self.write(move |connection| delete(connection, &id)).await
    }

    /// Deletes entries, each on its own, as [`Self::delete_entry`] does.
    ///
    /// # Errors
    /// Per entry: [`StoreError::NotFound`]; for all: the commit failed.
    pub async fn delete_entries(
        &self,
        ids: Vec<String>,
    ) -> Result<Vec<Result<EntryRecord, StoreError>>, StoreError> {
        self.write(move |connection| {
            Ok(ids.iter().map(|id| isolated(connection, || delete(connection, id))).collect())
        })
        .await
    }

    /// Deletes the entries whose end is before `now` (Unix seconds) and returns them.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn prune_entries(&self, now: i64) -> Result<Vec<EntryRecord>, StoreError> {
        self.write(move |connection| {
            let ids: Vec<String> = connection
                .prepare_cached(
                    "SELECT id FROM entries WHERE expires_at > 0 AND expires_at < ? ORDER BY seq",
                )?
                .query_map([now], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            ids.iter().map(|id| delete(connection, id)).collect()
        })
        .await
    }
}

/// Stores one entry, unless a similar one is there.
pub(super) fn create(
    connection: &Connection,
    mut entry: EntryRecord,
    now: i64,
) -> Result<Created, StoreError> {
    entry.dedupe();
    entry.validate()?;
    if let Some(similar) = find_similar(connection, &entry)? {
        return Ok(Created::Similar(similar));
    }
    if entry.id.is_empty() {
        // `created_at` counts seconds. IDs that grow let agents put the older of two entries first all the same.
        entry.id = Uuid::now_v7().to_string();
    } else if let Some(same_id) = find(connection, &entry.id)? {
        return Ok(Created::Similar(same_id));
    }
    entry.created_at = now;
    entry.revision = 0;
    connection
        .prepare_cached(
            "INSERT INTO entries (id, spiffe_id, parent_id, x509_svid_ttl, jwt_svid_ttl, admin, downstream, expires_at, \
             revision, store_svid, hint, created_at, disable_x509_svid_prefetch, jwt_svid_include_jti) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            entry.id,
            entry.spiffe_id.as_str(),
            entry.parent_id.as_str(),
            entry.x509_svid_ttl,
            entry.jwt_svid_ttl,
            entry.admin,
            entry.downstream,
            entry.expires_at,
            entry.revision,
            entry.store_svid,
            entry.hint,
            entry.created_at,
            entry.disable_x509_svid_prefetch,
            entry.jwt_svid_include_jti,
        ])?;
    let seq = connection.last_insert_rowid();
    write_selectors(connection, seq, &entry.selectors)?;
    write_dns_names(connection, seq, &entry.dns_names)?;
    write_federates_with(connection, seq, &entry.federates_with)?;
    events::append(connection, EventKind::Entry, &entry.id)?;
    Ok(Created::New(entry))
}

/// The entry that gives the same SPIFFE ID to the same workloads: SPIRE calls it similar and keeps only one.
fn find_similar(connection: &Connection, entry: &EntryRecord) -> Result<Option<EntryRecord>, StoreError> {
    // By ID and parent, which few entries share; a selector may be that of every entry there is.
    let sql = format!("SELECT {COLUMNS} FROM entries WHERE spiffe_id = ? AND parent_id = ? ORDER BY seq");
    let candidates = connection
        .prepare_cached(&sql)?
        .query_map([entry.spiffe_id.as_str(), entry.parent_id.as_str()], header)?
        .collect::<Result<Vec<_>, _>>()?;
    let wanted: HashSet<&Selector> = entry.selectors.iter().collect();
    for candidate in candidates {
        let (_, candidate) = complete(connection, candidate)?;
        if candidate.selectors.iter().collect::<HashSet<_>>() == wanted {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// Reads one entry by its ID.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<EntryRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM entries WHERE id = ?");
    let found = connection.prepare_cached(&sql)?.query_row([id], header).optional()?;
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

fn list(
    connection: &Connection,
    filter: &EntryFilter,
    page: &PageRequest,
) -> Result<Page<EntryRecord>, StoreError> {
    let (condition, mut values) = filter.condition();
    let sql =
        format!("SELECT {COLUMNS} FROM entries e WHERE {condition} AND e.seq > ? ORDER BY e.seq LIMIT ?");
    values.extend(page.bounds()?);
    let headers = connection
        .prepare_cached(&sql)?
        .query_map(rusqlite::params_from_iter(values), header)?
        .collect::<Result<Vec<_>, _>>()?;
    let entries =
        headers.into_iter().map(|header| complete(connection, header)).collect::<Result<Vec<_>, _>>()?;
    Ok(entry_filter::cut(entries, page.size))
}

/// One row of `entries`: its `seq`, and the entry without its lists, which are rows of other tables.
fn header(row: &Row<'_>) -> rusqlite::Result<(i64, EntryRecord)> {
    let entry = EntryRecord {
        id: row.get(1)?,
        x509_svid_ttl: row.get(4)?,
        jwt_svid_ttl: row.get(5)?,
        admin: row.get(6)?,
        downstream: row.get(7)?,
        expires_at: row.get(8)?,
        revision: row.get(9)?,
        store_svid: row.get(10)?,
        hint: row.get(11)?,
        created_at: row.get(12)?,
        disable_x509_svid_prefetch: row.get(13)?,
        jwt_svid_include_jti: row.get(14)?,
        ..EntryRecord::new(spiffe_id(row, 2)?, spiffe_id(row, 3)?, Vec::new())
    };
    Ok((row.get(0)?, entry))
}

/// Adds the lists.
fn complete(
    connection: &Connection,
    (seq, mut entry): (i64, EntryRecord),
) -> Result<(i64, EntryRecord), StoreError> {
    entry.selectors = connection
        .prepare_cached("SELECT type, value FROM entry_selectors WHERE entry = ? ORDER BY position")?
        .query_map([seq], selector)?
        .collect::<Result<_, _>>()?;
    entry.dns_names = connection
        .prepare_cached("SELECT name FROM entry_dns_names WHERE entry = ? ORDER BY position")?
        .query_map([seq], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    entry.federates_with = connection
        .prepare_cached("SELECT trust_domain FROM entry_federates_with WHERE entry = ? ORDER BY position")?
        .query_map([seq], |row| trust_domain(row, 0))?
        .collect::<Result<_, _>>()?;
    Ok((seq, entry))
}

/// Reads a row of type and value.
pub(super) fn selector(row: &Row<'_>) -> rusqlite::Result<Selector> {
    Ok(Selector { kind: row.get(0)?, value: row.get(1)? })
}

/// Reads a column that holds a SPIFFE ID.
pub(super) fn spiffe_id(row: &Row<'_>, column: usize) -> rusqlite::Result<SpiffeId> {
    let text: String = row.get(column)?;
    SpiffeId::parse(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

/// Reads a column that holds the name of a trust domain.
pub(super) fn trust_domain(row: &Row<'_>, column: usize) -> rusqlite::Result<TrustDomain> {
    let text: String = row.get(column)?;
    TrustDomain::parse(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

pub(super) fn write_selectors(
    connection: &Connection,
    seq: i64,
    selectors: &[Selector],
) -> Result<(), StoreError> {
    let mut insert = connection
        .prepare_cached("INSERT INTO entry_selectors (entry, position, type, value) VALUES (?, ?, ?, ?)")?;
    for (position, selector) in (0_i64..).zip(selectors) {
        insert.execute(params![seq, position, selector.kind, selector.value])?;
    }
    Ok(())
}

pub(super) fn write_dns_names(connection: &Connection, seq: i64, names: &[String]) -> Result<(), StoreError> {
    let mut insert =
        connection.prepare_cached("INSERT INTO entry_dns_names (entry, position, name) VALUES (?, ?, ?)")?;
    for (position, name) in (0_i64..).zip(names) {
        insert.execute(params![seq, position, name])?;
    }
    Ok(())
}

pub(super) fn write_federates_with(
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
