//! What several tables hold, read from their rows.

use rusqlite::{
    Connection, Row, params_from_iter,
    types::{Type, Value},
};
use svidecar_id::{SpiffeId, TrustDomain};

use crate::store::{error::StoreError, record::Selector};

/// Runs a statement that counts.
pub(super) fn count(connection: &Connection, sql: &str, values: Vec<Value>) -> Result<u64, StoreError> {
    let count: i64 = connection.prepare_cached(sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(count.unsigned_abs())
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
