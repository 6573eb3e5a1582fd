//! The index itself: values in, values out.
//!
//! An agent is authorized for the entries below it: those whose parent is the agent or one of its aliases (an
//! entry with the server as its parent whose selectors the node all has), and, through SPIFFE IDs, those
//! below them. An entry that has ended counts for nothing on that way, from that second on: it may be there until it is pruned.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use svidecar_id::{SpiffeId, TrustDomain};

use crate::{
    ids,
    store::{AgentRecord, BundleRecord, EntryRecord, Selector, Snapshot},
};

/// Whose view a change may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Affected {
    /// Everybody's.
    All,
    /// That of these agents.
    Agents(HashSet<SpiffeId>),
}

impl Default for Affected {
    fn default() -> Self {
        Self::Agents(HashSet::new())
    }
}

impl Affected {
    fn add(&mut self, agent: &SpiffeId) {
        if let Self::Agents(agents) = self {
            agents.insert(agent.clone());
        }
    }
}

/// A time at which no entry has ended.
const ALWAYS: i64 = i64::MIN;

type EntryIds = BTreeSet<Arc<str>>;

/// Entries, agents and bundles by the questions that are asked about them.
#[derive(Default)]
struct Tables {
    entries: BTreeMap<Arc<str>, Arc<EntryRecord>>,
    by_parent: HashMap<SpiffeId, EntryIds>,
    by_spiffe_id: HashMap<SpiffeId, EntryIds>,
    /// Node aliases by one of their selectors, which is enough to find the candidates.
    aliases: HashMap<Selector, EntryIds>,
    agents: HashMap<SpiffeId, Arc<AgentRecord>>,
    agents_by_selector: HashMap<Selector, HashSet<SpiffeId>>,
    bundles: BTreeMap<TrustDomain, Arc<BundleRecord>>,
}

/// The index.
pub(super) struct Index {
    server: Option<SpiffeId>,
    tables: Tables,
}

impl Index {
    pub(super) fn new(trust_domain: &TrustDomain, snapshot: Snapshot) -> Self {
        let mut index = Self { server: ids::server(trust_domain), tables: Tables::default() };
        index.reset(snapshot);
        index
    }

    pub(super) fn reset(&mut self, snapshot: Snapshot) {
        self.tables = Tables::default();
        for agent in snapshot.agents {
            self.insert_agent(agent);
        }
        for entry in snapshot.entries {
            self.insert_entry(entry);
        }
        self.tables.bundles = snapshot
            .bundles
            .into_iter()
            .map(|bundle| (bundle.trust_domain.clone(), Arc::new(bundle)))
            .collect();
    }

    /// Puts an entry as it is now in place of what it was; `None` when it is gone.
    pub(super) fn set_entry(&mut self, id: &str, entry: Option<EntryRecord>, affected: &mut Affected) {
        if let Some(old) = self.tables.entries.get(id).cloned() {
            self.agents_above(&old, affected);
            self.remove_entry(&old);
        }
        if let Some(entry) = entry {
            let entry = self.insert_entry(entry);
            self.agents_above(&entry, affected);
        }
    }

    pub(super) fn set_agent(&mut self, id: &SpiffeId, agent: Option<AgentRecord>, affected: &mut Affected) {
        affected.add(id);
        self.remove_agent(id);
        if let Some(agent) = agent {
            self.insert_agent(agent);
        }
    }

    pub(super) fn set_bundle(
        &mut self,
        name: &TrustDomain,
        bundle: Option<BundleRecord>,
        affected: &mut Affected,
    ) {
        *affected = Affected::All;
        match bundle {
            Some(bundle) => self.tables.bundles.insert(name.clone(), Arc::new(bundle)),
            None => self.tables.bundles.remove(name),
        };
    }

    pub(super) fn agent(&self, id: &SpiffeId) -> Option<Arc<AgentRecord>> {
        self.tables.agents.get(id).cloned()
    }

    pub(super) fn bundle(&self, name: &TrustDomain) -> Option<Arc<BundleRecord>> {
        self.tables.bundles.get(name).cloned()
    }

    pub(super) fn bundles(&self) -> impl Iterator<Item = &Arc<BundleRecord>> {
        self.tables.bundles.values()
    }

    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.tables.entries.len(), self.tables.agents.len(), self.tables.bundles.len())
    }

    pub(super) fn with_spiffe_id(&self, id: &SpiffeId, now: i64) -> Vec<Arc<EntryRecord>> {
        self.resolve(self.tables.by_spiffe_id.get(id))
            .filter(|entry| !entry.has_ended(now))
            .cloned()
            .collect()
    }

    /// All that the agent is authorized for, ordered by entry ID.
    pub(super) fn of_agent(&self, agent: &SpiffeId, now: i64) -> Vec<Arc<EntryRecord>> {
        let aliases = || self.aliases_of(agent).filter(|alias| !alias.has_ended(now));
        let mut found: Vec<_> = aliases().cloned().collect();
        let mut visited: HashSet<&SpiffeId> = HashSet::from([agent]);
        let mut parents = vec![agent];
        for alias in aliases() {
            if visited.insert(&alias.spiffe_id) {
                parents.push(&alias.spiffe_id);
            }
        }
        while let Some(parent) = parents.pop() {
            let below = self.resolve(self.tables.by_parent.get(parent));
            for entry in below.filter(|entry| !entry.has_ended(now)) {
                if visited.insert(&entry.spiffe_id) {
                    parents.push(&entry.spiffe_id);
                }
                found.push(Arc::clone(entry));
            }
        }
        found.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        found.dedup_by(|a, b| a.id == b.id);
        found
    }

    /// The entry, when the agent is above it.
    pub(super) fn entry_of_agent(
        &self,
        agent: &SpiffeId,
        entry_id: &str,
        now: i64,
    ) -> Option<Arc<EntryRecord>> {
        let entry = self.tables.entries.get(entry_id)?;
        let record = self.tables.agents.get(agent);
        let mut reached = false;
        self.ascend(entry, now, |above| {
            reached = reached
                || match above {
                    Above::Parent(parent) => parent == agent,
                    Above::Alias(alias) => record.is_some_and(|record| has_all(record, &alias.selectors)),
                };
        });
        reached.then(|| Arc::clone(entry))
    }

    /// Adds the agents whose view the entry is part of, or leads to.
    fn agents_above(&self, entry: &Arc<EntryRecord>, affected: &mut Affected) {
        // Also by what has ended: whoever had it has to be told that it is gone.
        self.ascend(entry, ALWAYS, |above| match above {
            // Also one that has not attested yet: it may be about to subscribe.
            Above::Parent(parent) => affected.add(parent),
            Above::Alias(alias) => {
                let Some(first) = alias.selectors.first() else { return };
                for id in self.tables.agents_by_selector.get(first).into_iter().flatten() {
                    if self.tables.agents.get(id).is_some_and(|agent| has_all(agent, &alias.selectors)) {
                        affected.add(id);
                    }
                }
            }
        });
    }

    /// Shows every parent and every alias on the ways up from an entry that are there at `now`.
    fn ascend(&self, entry: &Arc<EntryRecord>, now: i64, mut show: impl FnMut(Above<'_>)) {
        let mut visited = HashSet::from([entry.id.clone()]);
        let mut entries = vec![Arc::clone(entry)];
        while let Some(entry) = entries.pop() {
            if entry.has_ended(now) {
                continue;
            }
            if self.is_alias(&entry) {
                show(Above::Alias(&entry));
                continue;
            }
            show(Above::Parent(&entry.parent_id));
            for parent in self.resolve(self.tables.by_spiffe_id.get(&entry.parent_id)) {
                if visited.insert(parent.id.clone()) {
                    entries.push(Arc::clone(parent));
                }
            }
        }
    }

    fn aliases_of(&self, agent: &SpiffeId) -> impl Iterator<Item = &Arc<EntryRecord>> {
        let agent = self.tables.agents.get(agent);
        let selectors = agent.map_or(&[][..], |agent| agent.selectors.as_slice());
        selectors
            .iter()
            .flat_map(|selector| self.resolve(self.tables.aliases.get(selector)))
            .filter(move |alias| agent.is_some_and(|agent| has_all(agent, &alias.selectors)))
    }

    fn is_alias(&self, entry: &EntryRecord) -> bool {
        self.server.as_ref() == Some(&entry.parent_id)
    }

    fn resolve<'a>(&'a self, ids: Option<&'a EntryIds>) -> impl Iterator<Item = &'a Arc<EntryRecord>> {
        ids.into_iter().flatten().filter_map(|id| self.tables.entries.get(id))
    }

    fn insert_entry(&mut self, entry: EntryRecord) -> Arc<EntryRecord> {
        let id: Arc<str> = entry.id.as_str().into();
        let entry = Arc::new(entry);
        if self.is_alias(&entry) {
            if let Some(first) = entry.selectors.first() {
                self.tables.aliases.entry(first.clone()).or_default().insert(Arc::clone(&id));
            }
        } else {
            self.tables.by_parent.entry(entry.parent_id.clone()).or_default().insert(Arc::clone(&id));
        }
        self.tables.by_spiffe_id.entry(entry.spiffe_id.clone()).or_default().insert(Arc::clone(&id));
        self.tables.entries.insert(id, Arc::clone(&entry));
        entry
    }

    fn remove_entry(&mut self, entry: &EntryRecord) {
        let id = entry.id.as_str();
        if let Some(first) = entry.selectors.first() {
            take(&mut self.tables.aliases, first, id);
        }
        take(&mut self.tables.by_parent, &entry.parent_id, id);
        take(&mut self.tables.by_spiffe_id, &entry.spiffe_id, id);
        self.tables.entries.remove(id);
    }

    fn insert_agent(&mut self, agent: AgentRecord) {
        for selector in &agent.selectors {
            self.tables.agents_by_selector.entry(selector.clone()).or_default().insert(agent.id.clone());
        }
        self.tables.agents.insert(agent.id.clone(), Arc::new(agent));
    }

    fn remove_agent(&mut self, id: &SpiffeId) {
        let Some(agent) = self.tables.agents.remove(id) else { return };
        for selector in &agent.selectors {
            if let Some(agents) = self.tables.agents_by_selector.get_mut(selector) {
                agents.remove(id);
                if agents.is_empty() {
                    self.tables.agents_by_selector.remove(selector);
                }
            }
        }
    }
}

/// What is met on the way up from an entry.
enum Above<'a> {
    /// An ID that may be an agent's.
    Parent(&'a SpiffeId),
    /// A node alias.
    Alias(&'a EntryRecord),
}

fn has_all(agent: &AgentRecord, selectors: &[Selector]) -> bool {
    selectors.iter().all(|selector| agent.selectors.contains(selector))
}

/// Takes an entry out of one table, and the row with it when it was the last.
fn take<K: std::hash::Hash + Eq>(table: &mut HashMap<K, EntryIds>, key: &K, id: &str) {
    if let Some(ids) = table.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            table.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
