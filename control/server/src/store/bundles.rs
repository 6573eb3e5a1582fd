//! Bundles: our own and those of the trust domains we federate with.

use rusqlite::{Connection, OptionalExtension, params};
use svidecar_id::TrustDomain;

use super::{
    BundleRecord, EventKind, JwtAuthority, Page, PageRequest, Store, StoreError, X509Authority, entries,
    entry_update, events,
};

/// What becomes of the entries that federate with a bundle that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteMode {
    /// They keep the bundle from being deleted.
    Restrict,
    /// They are deleted too.
    Delete,
    /// They stay, without that trust domain.
    Dissociate,
}

impl Store {
    /// The bundle of a trust domain.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get_bundle(&self, trust_domain: &TrustDomain) -> Result<Option<BundleRecord>, StoreError> {
        let trust_domain = trust_domain.clone();
        self.read(move |connection| find(connection, &trust_domain)).await
    }

    /// One page of the bundles, ours among them, by name of trust domain.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn list_bundles(&self, page: PageRequest) -> Result<Page<BundleRecord>, StoreError> {
        self.read(move |connection| list(connection, &page)).await
    }

    /// How many bundles there are, ours among them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_bundles(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let count: i64 =
                connection.prepare_cached("SELECT count(*) FROM bundles")?.query_row([], |row| row.get(0))?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    /// Stores a bundle that must be new.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    pub async fn create_bundle(&self, bundle: BundleRecord) -> Result<(), StoreError> {
        self.write(move |connection| {
            if find(connection, &bundle.trust_domain)?.is_some() {
                return Err(StoreError::AlreadyExists {
                    what: "bundle",
                    key: bundle.trust_domain.to_string(),
                });
            }
            put(connection, &bundle)
        })
        .await
    }

    /// Stores a bundle in place of the one of its trust domain, if there is one. The same again is no change.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn set_bundle(&self, bundle: BundleRecord) -> Result<(), StoreError> {
        self.write(move |connection| put_if_changed(connection, &bundle)).await
    }

    /// Reads, changes and writes a bundle in one transaction, and returns what it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or what `change` answers.
    pub async fn modify_bundle<F>(
        &self,
        trust_domain: &TrustDomain,
        change: F,
    ) -> Result<BundleRecord, StoreError>
    where
        F: FnOnce(&mut BundleRecord) -> Result<(), StoreError> + Send + 'static,
    {
        let trust_domain = trust_domain.clone();
        self.write(move |connection| {
            let mut bundle = find(connection, &trust_domain)?
                .ok_or_else(|| StoreError::not_found("bundle", &trust_domain))?;
            change(&mut bundle)?;
            bundle.trust_domain = trust_domain;
            put_if_changed(connection, &bundle)?;
            Ok(bundle)
        })
        .await
    }

    /// Deletes a bundle.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::BundleInUse`] in mode [`DeleteMode::Restrict`].
    pub async fn delete_bundle(
        &self,
        trust_domain: &TrustDomain,
        mode: DeleteMode,
    ) -> Result<(), StoreError> {
        let trust_domain = trust_domain.clone();
        self.write(move |connection| delete(connection, &trust_domain, mode)).await
    }
}

fn delete(connection: &Connection, trust_domain: &TrustDomain, mode: DeleteMode) -> Result<(), StoreError> {
    if find(connection, trust_domain)?.is_none() {
        return Err(StoreError::not_found("bundle", trust_domain));
    }
    let federated: Vec<String> = connection
        .prepare_cached(
            "SELECT id FROM entries WHERE seq IN (SELECT entry FROM entry_federates_with WHERE trust_domain = ?)",
        )?
        .query_map([trust_domain.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    match mode {
        DeleteMode::Restrict if !federated.is_empty() => {
            return Err(StoreError::BundleInUse { entries: federated.len() as u64 });
        }
        DeleteMode::Restrict => {}
        DeleteMode::Delete => {
            for id in &federated {
                entries::delete(connection, id)?;
            }
        }
        DeleteMode::Dissociate => {
            for id in &federated {
                dissociate(connection, id, trust_domain)?;
            }
        }
    }
    connection
        .prepare_cached("DELETE FROM bundles WHERE trust_domain = ?")?
        .execute([trust_domain.as_str()])?;
    events::append(connection, EventKind::Bundle, trust_domain.as_str())
}

fn dissociate(connection: &Connection, id: &str, trust_domain: &TrustDomain) -> Result<(), StoreError> {
    let Some(mut entry) = entries::find(connection, id)? else { return Ok(()) };
    entry.federates_with.retain(|name| name != trust_domain);
    entry.revision += 1;
    entry_update::write(connection, &entry)?;
    events::append(connection, EventKind::Entry, id)
}

/// Reads all bundles.
pub(super) fn all(connection: &Connection) -> Result<Vec<BundleRecord>, StoreError> {
    Ok(list(connection, &PageRequest::default())?.items)
}

/// Stores a bundle, unless it is there just so.
pub(super) fn put_if_changed(connection: &Connection, bundle: &BundleRecord) -> Result<(), StoreError> {
    if find(connection, &bundle.trust_domain)?.as_ref() == Some(bundle) {
        return Ok(());
    }
    put(connection, bundle)
}

fn put(connection: &Connection, bundle: &BundleRecord) -> Result<(), StoreError> {
    let name = bundle.trust_domain.as_str();
    let sequence = i64::try_from(bundle.sequence).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO bundles (trust_domain, refresh_hint, sequence) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET \
             refresh_hint = excluded.refresh_hint, sequence = excluded.sequence",
        )?
        .execute(params![name, bundle.refresh_hint, sequence])?;
    for table in ["bundle_x509_authorities", "bundle_jwt_authorities"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE trust_domain = ?"))?.execute([name])?;
    }
    for (position, authority) in (0_i64..).zip(&bundle.x509_authorities) {
        connection
            .prepare_cached("INSERT INTO bundle_x509_authorities VALUES (?, ?, ?, ?)")?
            .execute(params![name, position, authority.der, authority.tainted])?;
    }
    for (position, key) in (0_i64..).zip(&bundle.jwt_authorities) {
        connection
            .prepare_cached("INSERT INTO bundle_jwt_authorities VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![name, position, key.key_id, key.spki_der, key.expires_at, key.tainted])?;
    }
    events::append(connection, EventKind::Bundle, name)
}

/// Reads one bundle.
pub(super) fn find(
    connection: &Connection,
    trust_domain: &TrustDomain,
) -> Result<Option<BundleRecord>, StoreError> {
    let name = trust_domain.as_str();
    let found: Option<(i64, i64)> = connection
        .prepare_cached("SELECT refresh_hint, sequence FROM bundles WHERE trust_domain = ?")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((refresh_hint, sequence)) = found else { return Ok(None) };
    let x509_authorities = connection
        .prepare_cached(
            "SELECT der, tainted FROM bundle_x509_authorities WHERE trust_domain = ? ORDER BY position",
        )?
        .query_map([name], |row| Ok(X509Authority { der: row.get(0)?, tainted: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    let jwt_authorities = connection
        .prepare_cached(
            "SELECT key_id, spki_der, expires_at, tainted FROM bundle_jwt_authorities WHERE trust_domain = ? \
             ORDER BY position",
        )?
        .query_map([name], |row| {
            Ok(JwtAuthority {
                key_id: row.get(0)?,
                spki_der: row.get(1)?,
                expires_at: row.get(2)?,
                tainted: row.get(3)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Some(BundleRecord {
        trust_domain: trust_domain.clone(),
        x509_authorities,
        jwt_authorities,
        refresh_hint,
        sequence: sequence.unsigned_abs(),
    }))
}

/// Here the page token is the last name of the page before.
fn list(connection: &Connection, page: &PageRequest) -> Result<Page<BundleRecord>, StoreError> {
    let limit = if page.size == 0 { -1 } else { i64::from(page.size) + 1 };
    let mut names: Vec<TrustDomain> = connection
        .prepare_cached(
            "SELECT trust_domain FROM bundles WHERE trust_domain > ? ORDER BY trust_domain LIMIT ?",
        )?
        .query_map(params![page.token, limit], |row| entries::trust_domain(row, 0))?
        .collect::<Result<_, _>>()?;
    let size = page.size as usize;
    let mut next = String::new();
    if size > 0 && names.len() > size {
        names.truncate(size);
        next = names.last().map(ToString::to_string).unwrap_or_default();
    }
    let items =
        names.iter().filter_map(|name| find(connection, name).transpose()).collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}
