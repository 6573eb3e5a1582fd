//! Records as rows, and what several tables hold.

use rusqlite::{
    Connection, Row, ToSql, params_from_iter,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use svidecar_id::TrustDomain;

use super::conditions::{self, Condition};
use crate::store::{
    error::StoreError,
    filter::{Page, PageRequest},
    record::{Columns, Selector, Value},
};

/// The columns of a record, each `before` its name: `id, spiffe_id, …`.
pub(super) fn names<R: Columns>(before: &str) -> String {
    let names: Vec<_> = R::NAMES.iter().map(|name| format!("{before}{name}")).collect();
    names.join(", ")
}

/// As many parameters: `?, ?, …`.
pub(super) fn marks<R: Columns>() -> String {
    vec!["?"; R::NAMES.len()].join(", ")
}

/// Reads a row of `seq` and [`names`].
pub(super) fn record<R: Columns>(row: &Row<'_>) -> Result<(i64, R), StoreError> {
    let mut column = 0;
    let record = R::read(|| {
        column += 1;
        Ok(row.get(column)?)
    })?;
    Ok((row.get(0)?, record))
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Flag(flag) => flag.to_sql(),
            Self::Integer(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

impl FromSql for Value {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(number) => Ok(Self::Integer(number)),
            ValueRef::Text(_) => Ok(Self::Text(value.as_str()?.to_owned())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// How many rows of a table there are on a condition.
pub(super) fn count(
    connection: &Connection,
    table: &str,
    (condition, values): Condition,
) -> Result<u64, StoreError> {
    let sql = format!("SELECT count(*) FROM {table} t WHERE {condition}");
    let count: i64 =
        connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// One page of the records of a table on a condition, each made whole by `complete`.
pub(super) fn page<R: Columns>(
    connection: &Connection,
    table: &str,
    (condition, mut values): Condition,
    page: &PageRequest,
    complete: impl Fn(&Connection, (i64, R)) -> Result<(i64, R), StoreError>,
) -> Result<Page<R>, StoreError> {
    let names = names::<R>("t.");
    let sql = format!(
        "SELECT t.seq, {names} FROM {table} t WHERE {condition} AND t.seq > ? ORDER BY t.seq LIMIT ?"
    );
    values.extend(conditions::bounds(page)?);
    let rows = connection
        .prepare_cached(&sql)?
        .query_and_then(params_from_iter(values), record)?
        .collect::<Result<Vec<_>, _>>()?;
    let records = rows.into_iter().map(|row| complete(connection, row)).collect::<Result<Vec<_>, _>>()?;
    Ok(page.cut(records))
}

/// Reads a row of type and value.
pub(super) fn selector(row: &Row<'_>) -> rusqlite::Result<Selector> {
    Ok(Selector { kind: row.get(0)?, value: row.get(1)? })
}

/// Reads a row of the name of a trust domain.
pub(super) fn trust_domain(row: &Row<'_>) -> Result<TrustDomain, StoreError> {
    let name: String = row.get(0)?;
    TrustDomain::parse(&name).map_err(|error| StoreError::corrupt("trust domain", error))
}
