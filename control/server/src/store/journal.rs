//! The CA's journal: which authorities are prepared, active and old. What the bytes mean is the CA's affair.

use rusqlite::{OptionalExtension, params};
use svidecar_id::TrustDomain;

use super::{BundleRecord, Store, StoreError, bundles};

impl Store {
    /// The journal of that name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn load_journal(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let data = connection
                .prepare_cached("SELECT data FROM ca_journals WHERE name = ?")?
                .query_row([name], |row| row.get(0))
                .optional()?;
            Ok(data)
        })
        .await
    }

    /// Stores the journal, and with it, in the same transaction, the change that it means for our bundle (which is
    /// created when it is not there). So an authority is never in use and unpublished. Returns the bundle.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn save_journal<F>(
        &self,
        name: &str,
        data: Vec<u8>,
        trust_domain: &TrustDomain,
        change: F,
    ) -> Result<BundleRecord, StoreError>
    where
        F: FnOnce(&mut BundleRecord) + Send + 'static,
    {
        let (name, trust_domain) = (name.to_owned(), trust_domain.clone());
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO ca_journals (name, data) VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
                )?
                .execute(params![name, data])?;
            let found = bundles::find(connection, &trust_domain)?;
            let mut bundle = found.unwrap_or_else(|| BundleRecord::empty(trust_domain.clone()));
            change(&mut bundle);
            bundle.trust_domain = trust_domain;
            bundles::put_if_changed(connection, &bundle)?;
            Ok(bundle)
        })
        .await
    }
}
