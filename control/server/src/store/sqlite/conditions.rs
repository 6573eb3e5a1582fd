//! Filters and pages as conditions of SQL.

use rusqlite::types::Value;
use svidecar_id::TrustDomain;

use crate::store::{
    error::StoreError,
    filter::{AgentFilter, EntryFilter, Match, PageRequest},
    record::Selector,
};

/// A condition on the rows of a table, which is called `t` in it, with its values.
pub(super) type Condition = (String, Vec<Value>);

/// Any row.
pub(super) fn any() -> Condition {
    Conditions::default().finish()
}

/// A condition on `entries`.
pub(super) fn entries(filter: &EntryFilter) -> Condition {
    let mut condition = Conditions::default();
    if let Some(id) = &filter.spiffe_id {
        condition.equals("t.spiffe_id", id.as_str().to_owned());
    }
    if let Some(id) = &filter.parent_id {
        condition.equals("t.parent_id", id.as_str().to_owned());
    }
    if let Some((how, selectors)) = &filter.selectors {
        condition.selectors("t.seq", "entry_selectors", "entry", *how, selectors);
    }
    if let Some((how, trust_domains)) = &filter.federates_with {
        let names = serde_json::Value::from_iter(trust_domains.iter().map(TrustDomain::as_str));
        condition.set("t.seq", "entry_federates_with", "entry", *how, "trust_domain", "value", &names);
    }
    if let Some(hint) = &filter.hint {
        condition.equals("t.hint", hint.clone());
    }
    if let Some(downstream) = filter.downstream {
        condition.equals("t.downstream", i64::from(downstream));
    }
    condition.finish()
}

/// A condition on `agents`.
pub(super) fn agents(filter: &AgentFilter) -> Condition {
    let mut condition = Conditions::default();
    if let Some(kind) = &filter.attestation_type {
        condition.equals("t.attestation_type", kind.clone());
    }
    if let Some(banned) = filter.banned {
        condition.equals("(t.serial = '')", i64::from(banned));
    }
    if let Some(can_reattest) = filter.can_reattest {
        condition.equals("t.can_reattest", i64::from(can_reattest));
    }
    if let Some(before) = filter.expires_before {
        condition.holds("t.expires_at < ?".to_owned(), before);
    }
    if let Some((how, selectors)) = &filter.selectors {
        condition.selectors("t.seq", "agent_selectors", "agent", *how, selectors);
    }
    condition.finish()
}

/// The values of `seq > ? … LIMIT ?`.
pub(super) fn bounds(page: &PageRequest) -> Result<[Value; 2], StoreError> {
    Ok([page.after()?.into(), limit(page).into()])
}

/// The value of `LIMIT ?`, where -1 is none.
pub(super) fn limit(page: &PageRequest) -> i64 {
    page.limit().unwrap_or(-1)
}

/// Conditions joined by AND.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn equals(&mut self, column: &str, value: impl Into<Value>) {
        self.holds(format!("{column} = ?"), value);
    }

    /// `sql` has one `?`.
    fn holds(&mut self, sql: String, value: impl Into<Value>) {
        self.sql.push(sql);
        self.values.push(value.into());
    }

    fn selectors(&mut self, column: &str, table: &str, key: &str, how: Match, asked: &[Selector]) {
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

    fn finish(self) -> (String, Vec<Value>) {
        let sql = if self.sql.is_empty() { "true".to_owned() } else { self.sql.join(" AND ") };
        (sql, self.values)
    }
}
