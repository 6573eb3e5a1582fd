//! Changing registration entries, field by field.

use rusqlite::{Connection, params};

use super::{EntryRecord, EventKind, Store, StoreError, entries, events, writer::isolated};

/// Which fields of an entry an update sets; the others stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per field of the API's mask")]
#[expect(missing_docs, reason = "each is named after the field of the record it stands for")]
pub struct EntryMask {
    pub spiffe_id: bool,
    pub parent_id: bool,
    pub selectors: bool,
    pub x509_svid_ttl: bool,
    pub jwt_svid_ttl: bool,
    pub federates_with: bool,
    pub admin: bool,
    pub downstream: bool,
    pub expires_at: bool,
    pub dns_names: bool,
    pub store_svid: bool,
    pub hint: bool,
    pub disable_x509_svid_prefetch: bool,
    pub jwt_svid_include_jti: bool,
}

impl EntryMask {
    /// Every field.
    pub const ALL: Self = Self {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        x509_svid_ttl: true,
        jwt_svid_ttl: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        dns_names: true,
        store_svid: true,
        hint: true,
        disable_x509_svid_prefetch: true,
        jwt_svid_include_jti: true,
    };

    /// Copies the chosen fields.
    fn apply(self, from: EntryRecord, to: &mut EntryRecord) {
        macro_rules! copy {
            ($($field:ident),*) => { $(if self.$field { to.$field = from.$field; })* };
        }
        copy!(
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl,
            jwt_svid_ttl,
            federates_with,
            admin,
            downstream,
            expires_at,
            dns_names,
            store_svid,
            hint,
            disable_x509_svid_prefetch,
            jwt_svid_include_jti
        );
    }
}

impl Store {
    /// Sets the fields that `mask` names of the entry with `changes.id`, raises its revision, and returns it whole.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`], [`StoreError::UnknownFederatedBundle`].
    pub async fn update_entry(
        &self,
        changes: EntryRecord,
        mask: EntryMask,
    ) -> Result<EntryRecord, StoreError> {
        self.write(move |connection| update(connection, changes, mask)).await
    }

    /// Updates entries, each on its own, as [`Self::update_entry`] does.
    ///
    /// # Errors
    /// Per entry as [`Self::update_entry`]; for all: the commit failed.
    pub async fn update_entries(
        &self,
        changes: Vec<EntryRecord>,
        mask: EntryMask,
    ) -> Result<Vec<Result<EntryRecord, StoreError>>, StoreError> {
        self.write(move |connection| {
            Ok(changes
                .into_iter()
                .map(|entry| isolated(connection, || update(connection, entry, mask)))
                .collect())
        })
        .await
    }
}

fn update(connection: &Connection, changes: EntryRecord, mask: EntryMask) -> Result<EntryRecord, StoreError> {
    let mut entry =
        entries::find(connection, &changes.id)?.ok_or_else(|| StoreError::not_found("entry", &changes.id))?;
    mask.apply(changes, &mut entry);
    entry.dedupe();
    entry.validate()?;
    entry.revision += 1;
    write(connection, &entry)?;
    events::append(connection, EventKind::Entry, &entry.id)?;
    Ok(entry)
}

/// Writes all of an entry over the one with its ID.
pub(super) fn write(connection: &Connection, entry: &EntryRecord) -> Result<(), StoreError> {
    let seq: i64 = connection
        .prepare_cached(
            "UPDATE entries SET spiffe_id = ?, parent_id = ?, x509_svid_ttl = ?, jwt_svid_ttl = ?, admin = ?, \
             downstream = ?, expires_at = ?, revision = ?, store_svid = ?, hint = ?, disable_x509_svid_prefetch = ?, \
             jwt_svid_include_jti = ? WHERE id = ? RETURNING seq",
        )?
        .query_row(
            params![
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
                entry.disable_x509_svid_prefetch,
                entry.jwt_svid_include_jti,
                entry.id,
            ],
            |row| row.get(0),
        )?;
    for table in ["entry_selectors", "entry_dns_names", "entry_federates_with"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE entry = ?"))?.execute([seq])?;
    }
    entries::write_selectors(connection, seq, &entry.selectors)?;
    entries::write_dns_names(connection, seq, &entry.dns_names)?;
    entries::write_federates_with(connection, seq, &entry.federates_with)
}
