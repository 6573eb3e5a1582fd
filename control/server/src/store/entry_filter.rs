//! What a listing asks for: SPIRE's filters as conditions of SQL, and paging.

use rusqlite::types::Value;
use svidecar_id::{SpiffeId, TrustDomain};

use super::{Selector, StoreError};

/// How the set that an object has compares to the set that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Both are the same.
    Exact,
    /// All that the object has was asked for.
    Subset,
    /// The object has all that was asked for.
    Superset,
    /// The object has something that was asked for.
    Any,
}

/// Which entries; `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// That give this SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// Directly below this parent.
    pub parent_id: Option<SpiffeId>,
    /// With such selectors.
    pub selectors: Option<(Match, Vec<Selector>)>,
    /// With such federated trust domains.
    pub federates_with: Option<(Match, Vec<TrustDomain>)>,
    /// With this hint.
    pub hint: Option<String>,
    /// That are, or are not, downstream.
    pub downstream: Option<bool>,
}

impl EntryFilter {
    /// A condition on `entries e`, with its values.
    pub(super) fn condition(&self) -> (String, Vec<Value>) {
        let mut condition = Conditions::default();
        if let Some(id) = &self.spiffe_id {
            condition.equals("e.spiffe_id", id.as_str().to_owned());
        }
        if let Some(id) = &self.parent_id {
            condition.equals("e.parent_id", id.as_str().to_owned());
        }
        if let Some((how, selectors)) = &self.selectors {
            condition.selectors("e.seq", "entry_selectors", "entry", *how, selectors);
        }
        if let Some((how, trust_domains)) = &self.federates_with {
            let names = serde_json::Value::from_iter(trust_domains.iter().map(TrustDomain::as_str));
            condition.set("e.seq", "entry_federates_with", "entry", *how, "trust_domain", "value", &names);
        }
        if let Some(hint) = &self.hint {
            condition.equals("e.hint", hint.clone());
        }
        if let Some(downstream) = self.downstream {
            condition.equals("e.downstream", i64::from(downstream));
        }
        condition.finish()
    }
}

/// Conditions joined by AND.
#[derive(Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    pub(super) fn equals(&mut self, column: &str, value: impl Into<Value>) {
        self.holds(format!("{column} = ?"), value);
    }

    /// `sql` has one `?`.
    pub(super) fn holds(&mut self, sql: String, value: impl Into<Value>) {
        self.sql.push(sql);
        self.values.push(value.into());
    }

    pub(super) fn selectors(&mut self, column: &str, table: &str, key: &str, how: Match, asked: &[Selector]) {
        let asked =
            serde_json::Value::from_iter(asked.iter().map(|s| vec![s.kind.as_str(), s.value.as_str()]));
        let unpacked = "json_extract(value, '$[0]'), json_extract(value, '$[1]')";
        self.set(column, table, key, how, "(type, value)", unpacked, &asked);
    }

    /// Compares the rows of `table` that belong to the object with the set `asked` (an array without duplicates). It is
    /// driven by the table's index over its members, so that it costs what it finds.
    #[expect(clippy::too_many_arguments, reason = "names of one SQL template, used twice")]
    fn set(
        &mut self,
        column: &str,
        table: &str,
        key: &str,
        how: Match,
        member: &str,
        unpacked: &str,
        asked: &serde_json::Value,
    ) {
        let mut asked = asked.clone();
        if let Some(list) = asked.as_array_mut() {
            let mut seen = std::collections::HashSet::new();
            list.retain(|item| seen.insert(item.to_string()));
        }
        let count = asked.as_array().map_or(0, Vec::len);
        let all_it_has =
            format!("count(*) = (SELECT count(*) FROM {table} whole WHERE whole.{key} = part.{key})");
        let having = match how {
            Match::Any => "count(*) > 0".to_owned(),
            Match::Superset => format!("count(*) = {count}"),
            Match::Subset => all_it_has,
            Match::Exact => format!("count(*) = {count} AND {all_it_has}"),
        };
        self.holds(
            format!(
                "{column} IN (SELECT part.{key} FROM {table} part WHERE {member} IN \
                 (SELECT {unpacked} FROM json_each(?)) GROUP BY part.{key} HAVING {having})"
            ),
            asked.to_string(),
        );
    }

    pub(super) fn finish(self) -> (String, Vec<Value>) {
        let sql = if self.sql.is_empty() { "true".to_owned() } else { self.sql.join(" AND ") };
        (sql, self.values)
    }
}

/// Which page of a listing.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// At most so many items; 0 for all.
    pub size: u32,
    /// What the page before said, empty for the first.
    pub token: String,
}

impl PageRequest {
    /// The values of `seq > ? … LIMIT ?`.
    pub(super) fn bounds(&self) -> Result<[Value; 2], StoreError> {
        let after: i64 = if self.token.is_empty() {
            0
        } else {
            self.token.parse().map_err(|_| StoreError::BadPageToken(self.token.clone()))?
        };
        // One more than asked for tells whether there is a next page.
        let limit = if self.size == 0 { -1 } else { i64::from(self.size) + 1 };
        Ok([after.into(), limit.into()])
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for the next page with; empty on the last one.
    pub next: String,
}

/// Makes a page of what [`PageRequest::bounds`] let through, each item with its `seq`.
pub(super) fn cut<T>(mut found: Vec<(i64, T)>, size: u32) -> Page<T> {
    let size = size as usize;
    let more = size > 0 && found.len() > size;
    if more {
        found.truncate(size);
    }
    let next = found.last().filter(|_| more).map(|(seq, _)| seq.to_string()).unwrap_or_default();
    Page { items: found.into_iter().map(|(_, item)| item).collect(), next }
}
