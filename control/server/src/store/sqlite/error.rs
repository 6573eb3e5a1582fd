//! SQLite's own failures as the store's.

use svidecar_code::Code;

use crate::store::error::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database { code: Code::StoreSqlite, error: error.into() }
    }
}
