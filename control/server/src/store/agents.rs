//! Attested agents: their serial numbers (two of them while a renewal is under way), banning, forgetting.

use rusqlite::{Connection, OptionalExtension, Row, params};
use svidecar_id::SpiffeId;

use super::{
    AgentRecord, EventKind, JOIN_TOKEN, Match, Page, PageRequest, Selector, Store, StoreError, entries,
    entry_filter::{self, Conditions},
    events, tokens,
};

const COLUMNS: &str =
    "seq, id, attestation_type, serial, expires_at, new_serial, new_expires_at, can_reattest, agent_version";

/// Which agents; `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Attested in this way.
    pub attestation_type: Option<String>,
    /// That are, or are not, banned.
    pub banned: Option<bool>,
    /// That may, or may not, attest again.
    pub can_reattest: Option<bool>,
    /// Whose SVID ends before (Unix seconds).
    pub expires_before: Option<i64>,
    /// With such selectors.
    pub selectors: Option<(Match, Vec<Selector>)>,
}

impl AgentFilter {
    fn condition(&self) -> (String, Vec<rusqlite::types::Value>) {
        let mut condition = Conditions::default();
        if let Some(kind) = &self.attestation_type {
            condition.equals("a.attestation_type", kind.clone());
        }
        if let Some(banned) = self.banned {
            condition.equals("(a.serial = '')", i64::from(banned));
        }
        if let Some(can_reattest) = self.can_reattest {
            condition.equals("a.can_reattest", i64::from(can_reattest));
        }
        if let Some(before) = self.expires_before {
            condition.holds("a.expires_at < ?".to_owned(), before);
        }
        if let Some((how, selectors)) = &self.selectors {
            condition.selectors("a.seq", "agent_selectors", "agent", *how, selectors);
        }
        condition.finish()
    }
}

impl Store {
    /// Stores an agent that attested, new or again, with its selectors. A join token that it attested by has to be there
    /// still: once one is deleted, nobody becomes an agent by it any more.
    ///
    /// # Errors
    /// [`StoreError::AgentBanned`]: attesting does not lift a ban. [`StoreError::TokenUnknown`].
    pub async fn put_agent(&self, agent: AgentRecord, token: Option<&str>) -> Result<(), StoreError> {
        let token = token.map(str::to_owned);
        self.write(move |connection| {
            if find(connection, &agent.id)?.is_some_and(|known| known.is_banned()) {
                return Err(StoreError::AgentBanned { id: agent.id.to_string() });
            }
            if let Some(token) = token {
                tokens::find(connection, &token)?.ok_or(StoreError::TokenUnknown)?;
            }
            put(connection, &agent)
        })
        .await
    }

    /// The agent with that SPIFFE ID.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get_agent(&self, id: &SpiffeId) -> Result<Option<AgentRecord>, StoreError> {
        let id = id.clone();
        self.read(move |connection| find(connection, &id)).await
    }

    /// One page of the agents that pass the filter, in the order of their first attestation.
    ///
    /// # Errors
    /// [`StoreError::BadPageToken`], or the database cannot be read.
    pub async fn list_agents(
        &self,
        filter: AgentFilter,
        page: PageRequest,
    ) -> Result<Page<AgentRecord>, StoreError> {
        self.read(move |connection| list(connection, &filter, &page)).await
    }

    /// How many agents pass the filter.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_agents(&self, filter: AgentFilter) -> Result<u64, StoreError> {
        self.read(move |connection| {
            let (condition, values) = filter.condition();
            let sql = format!("SELECT count(*) FROM agents a WHERE {condition}");
            let count: i64 = connection
                .prepare_cached(&sql)?
                .query_row(rusqlite::params_from_iter(values), |row| row.get(0))?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    /// Remembers the SVID of a renewal beside the one in use: the agent may never see the answer, and then goes on
    /// with the old one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::AgentBanned`].
    pub async fn renew_agent(
        &self,
        id: &SpiffeId,
        new_serial: String,
        new_expires_at: i64,
    ) -> Result<AgentRecord, StoreError> {
        self.change_agent(id, move |agent| {
            if agent.is_banned() {
                return Err(StoreError::AgentBanned { id: agent.id.to_string() });
            }
            agent.new_serial = new_serial;
            agent.new_expires_at = new_expires_at;
            Ok(())
        })
        .await
    }

    /// The agent was seen with the renewed SVID: from now on it is the one in use. Any other serial changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn activate_agent_serial(
        &self,
        id: &SpiffeId,
        seen: String,
    ) -> Result<AgentRecord, StoreError> {
        self.change_agent(id, move |agent| {
            if !agent.is_banned() && !seen.is_empty() && agent.new_serial == seen {
                agent.serial = std::mem::take(&mut agent.new_serial);
                agent.expires_at = std::mem::take(&mut agent.new_expires_at);
            }
            Ok(())
        })
        .await
    }

    /// Remembers the version that an agent reports.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn set_agent_version(&self, id: &SpiffeId, version: String) -> Result<AgentRecord, StoreError> {
        self.change_agent(id, move |agent| {
            agent.agent_version = version;
            Ok(())
        })
        .await
    }

    /// Bans an agent: none of its SVIDs is good any more, and it cannot attest until it is deleted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn ban_agent(&self, id: &SpiffeId) -> Result<AgentRecord, StoreError> {
        self.change_agent(id, |agent| {
            agent.serial.clear();
            agent.new_serial.clear();
            agent.new_expires_at = 0;
            Ok(())
        })
        .await
    }

    /// Deletes an agent, and with it the alias entry that its join token made.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_agent(&self, id: &SpiffeId) -> Result<AgentRecord, StoreError> {
        let id = id.clone();
        self.write(move |connection| {
            let agent = find(connection, &id)?.ok_or_else(|| StoreError::not_found("agent", &id))?;
            delete(connection, &agent)?;
            Ok(agent)
        })
        .await
    }

    /// Deletes the agents whose SVID ended before `expired_before` (Unix seconds) and returns them. Banned ones stay, or
    /// the ban would end; those that cannot attest again stay unless `all_types`.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn prune_agents(
        &self,
        expired_before: i64,
        all_types: bool,
    ) -> Result<Vec<AgentRecord>, StoreError> {
        self.write(move |connection| {
            let filter = AgentFilter {
                expires_before: Some(expired_before),
                banned: Some(false),
                can_reattest: (!all_types).then_some(true),
                ..AgentFilter::default()
            };
            let agents = list(connection, &filter, &PageRequest::default())?.items;
            agents.iter().try_for_each(|agent| delete(connection, agent))?;
            Ok(agents)
        })
        .await
    }

    /// Reads, changes and writes one agent; an unchanged one writes nothing.
    async fn change_agent<F>(&self, id: &SpiffeId, change: F) -> Result<AgentRecord, StoreError>
    where
        F: FnOnce(&mut AgentRecord) -> Result<(), StoreError> + Send + 'static,
    {
        let id = id.clone();
        self.write(move |connection| {
            let before = find(connection, &id)?.ok_or_else(|| StoreError::not_found("agent", &id))?;
            let mut agent = before.clone();
            change(&mut agent)?;
            if agent != before {
                put(connection, &agent)?;
            }
            Ok(agent)
        })
        .await
    }
}

fn put(connection: &Connection, agent: &AgentRecord) -> Result<(), StoreError> {
    let seq: i64 = connection
        .prepare_cached(
            "INSERT INTO agents (id, attestation_type, serial, expires_at, new_serial, new_expires_at, can_reattest, \
             agent_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
             attestation_type = excluded.attestation_type, serial = excluded.serial, expires_at = excluded.expires_at, \
             new_serial = excluded.new_serial, new_expires_at = excluded.new_expires_at, \
             can_reattest = excluded.can_reattest, agent_version = excluded.agent_version RETURNING seq",
        )?
        .query_row(
            params![
                agent.id.as_str(),
                agent.attestation_type,
                agent.serial,
                agent.expires_at,
                agent.new_serial,
                agent.new_expires_at,
                agent.can_reattest,
                agent.agent_version,
            ],
            |row| row.get(0),
        )?;
    connection.prepare_cached("DELETE FROM agent_selectors WHERE agent = ?")?.execute([seq])?;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO agent_selectors (agent, position, type, value) VALUES (?, ?, ?, ?)",
    )?;
    for (position, selector) in (0_i64..).zip(&agent.selectors) {
        insert.execute(params![seq, position, selector.kind, selector.value])?;
    }
    events::append(connection, EventKind::Agent, agent.id.as_str())
}

fn delete(connection: &Connection, agent: &AgentRecord) -> Result<(), StoreError> {
    if agent.attestation_type == JOIN_TOKEN {
        let children: Vec<String> = connection
            .prepare_cached("SELECT id FROM entries WHERE parent_id = ?")?
            .query_map([agent.id.as_str()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in children {
            if entries::find(connection, &id)?.is_some_and(|entry| entry.is_token_alias()) {
                entries::delete(connection, &id)?;
            }
        }
    }
    connection.prepare_cached("DELETE FROM agents WHERE id = ?")?.execute([agent.id.as_str()])?;
    events::append(connection, EventKind::Agent, agent.id.as_str())
}

/// Reads all agents.
pub(super) fn all(connection: &Connection) -> Result<Vec<AgentRecord>, StoreError> {
    Ok(list(connection, &AgentFilter::default(), &PageRequest::default())?.items)
}

fn find(connection: &Connection, id: &SpiffeId) -> Result<Option<AgentRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM agents WHERE id = ?");
    let found = connection.prepare_cached(&sql)?.query_row([id.as_str()], header).optional()?;
    found.map(|found| complete(connection, found).map(|(_, agent)| agent)).transpose()
}

fn list(
    connection: &Connection,
    filter: &AgentFilter,
    page: &PageRequest,
) -> Result<Page<AgentRecord>, StoreError> {
    let (condition, mut values) = filter.condition();
    let sql =
        format!("SELECT {COLUMNS} FROM agents a WHERE {condition} AND a.seq > ? ORDER BY a.seq LIMIT ?");
    values.extend(page.bounds()?);
    let rows = connection
        .prepare_cached(&sql)?
        .query_map(rusqlite::params_from_iter(values), header)?
        .collect::<Result<Vec<_>, _>>()?;
    let agents = rows.into_iter().map(|row| complete(connection, row)).collect::<Result<Vec<_>, _>>()?;
    Ok(entry_filter::cut(agents, page.size))
}

/// One row of `agents`: its `seq`, and the agent without its selectors.
fn header(row: &Row<'_>) -> rusqlite::Result<(i64, AgentRecord)> {
    let agent = AgentRecord {
        id: entries::spiffe_id(row, 1)?,
        attestation_type: row.get(2)?,
        serial: row.get(3)?,
        expires_at: row.get(4)?,
        new_serial: row.get(5)?,
        new_expires_at: row.get(6)?,
        can_reattest: row.get(7)?,
        agent_version: row.get(8)?,
        selectors: Vec::new(),
    };
    Ok((row.get(0)?, agent))
}

fn complete(
    connection: &Connection,
    (seq, mut agent): (i64, AgentRecord),
) -> Result<(i64, AgentRecord), StoreError> {
    agent.selectors = connection
        .prepare_cached("SELECT type, value FROM agent_selectors WHERE agent = ? ORDER BY position")?
        .query_map([seq], entries::selector)?
        .collect::<Result<_, _>>()?;
    Ok((seq, agent))
}
