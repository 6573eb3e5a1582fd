//! Bundles, with their authorities in tables of their own.

use rusqlite::{Connection, OptionalExtension, params};
use svidecar_id::TrustDomain;

use super::{conditions, entries, events, rows};
use crate::store::{
    error::StoreError,
    filter::{Page, PageRequest},
    record::{BundleChange, BundleRecord, DeleteMode, JwtAuthority, X509Authority},
    snapshot::EventKind,
};

/// Stores a bundle that must be new.
pub(super) fn create(connection: &Connection, bundle: &BundleRecord) -> Result<(), StoreError> {
    if find(connection, &bundle.trust_domain)?.is_some() {
        return Err(StoreError::AlreadyExists { what: "bundle", key: bundle.trust_domain.to_string() });
    }
    put(connection, bundle)
}

/// Changes a bundle, and stores what it is then.
pub(super) fn change(
    connection: &Connection,
    mut bundle: BundleRecord,
    change: BundleChange,
) -> Result<BundleRecord, StoreError> {
    let trust_domain = bundle.trust_domain.clone();
    change(&mut bundle)?;
    bundle.trust_domain = trust_domain;
    put_if_changed(connection, &bundle)?;
    Ok(bundle)
}

/// Deletes a bundle, and does with the entries that federate with it what `mode` says.
pub(super) fn delete(
    connection: &Connection,
    trust_domain: &TrustDomain,
    mode: DeleteMode,
) -> Result<(), StoreError> {
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
    entry.dissociate(trust_domain);
    entries::rewrite(connection, &entry)
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

/// How many bundles there are.
pub(super) fn count(connection: &Connection) -> Result<u64, StoreError> {
    rows::count(connection, "bundles", conditions::any())
}

/// One page by name; the token of the next is the last name.
pub(super) fn list(connection: &Connection, page: &PageRequest) -> Result<Page<BundleRecord>, StoreError> {
    let names: Vec<TrustDomain> = connection
        .prepare_cached(
            "SELECT trust_domain FROM bundles WHERE trust_domain > ? ORDER BY trust_domain LIMIT ?",
        )?
        .query_and_then(params![page.token, conditions::limit(page)], rows::trust_domain)?
        .collect::<Result<_, _>>()?;
    let found = names.into_iter().filter_map(|name| {
        let bundle = find(connection, &name).transpose()?;
        Some(bundle.map(|bundle| (name, bundle)))
    });
    Ok(page.cut(found.collect::<Result<_, _>>()?))
}
