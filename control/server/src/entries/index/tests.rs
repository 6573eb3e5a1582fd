#![allow(clippy::unwrap_used)]

use super::*;

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://demo.org{path}")).unwrap()
}

fn entry(name: &str, spiffe_id: &str, parent: &str, selectors: &[&str]) -> EntryRecord {
    let selectors = selectors.iter().map(|value| Selector::new("unix", *value)).collect();
    EntryRecord { id: name.to_owned(), ..EntryRecord::new(id(spiffe_id), id(parent), selectors) }
}

fn agent(path: &str, selectors: &[&str]) -> AgentRecord {
    AgentRecord {
        id: id(path),
        attestation_type: "join_token".to_owned(),
        serial: "1".to_owned(),
        expires_at: 0,
        new_serial: String::new(),
        new_expires_at: 0,
        key_sha256: String::new(),
        new_key_sha256: String::new(),
        generation: 1,
        issued_at: 0,
        member_until: 0,
        can_reattest: false,
        agent_version: String::new(),
        selectors: selectors.iter().map(|value| Selector::new("unix", *value)).collect(),
    }
}

fn index(entries: Vec<EntryRecord>, agents: Vec<AgentRecord>) -> Index {
    let snapshot = Snapshot { position: 0, entries, agents, bundles: Vec::new() };
    Index::new(&TrustDomain::parse("demo.org").unwrap(), snapshot)
}

fn view(index: &Index, agent: &str) -> Vec<String> {
    index.of_agent(&id(agent), 0).iter().map(|entry| entry.id.clone()).collect()
}

fn set(index: &mut Index, name: &str, entry: Option<EntryRecord>) -> BTreeSet<String> {
    let mut affected = Affected::default();
    index.set_entry(name, entry, &mut affected);
    match affected {
        Affected::All => BTreeSet::from(["all".to_owned()]),
        Affected::Agents(agents) => agents.iter().map(|agent| agent.path().to_owned()).collect(),
    }
}

const A: &str = "/spire/agent/a";
const B: &str = "/spire/agent/b";

#[test]
fn an_agent_has_what_is_below_it_and_nothing_else() {
    let index = index(
        vec![
            entry("1", "/shop", A, &["uid:1"]),
            entry("2", "/shop/worker", "/shop", &["uid:2"]),
            entry("3", "/other", B, &["uid:3"]),
        ],
        vec![agent(A, &[]), agent(B, &[])],
    );
    assert_eq!(view(&index, A), ["1", "2"]);
    assert_eq!(view(&index, B), ["3"]);
    assert_eq!(view(&index, "/spire/agent/c"), [] as [&str; 0]);
    for (name, of_a) in [("1", true), ("2", true), ("3", false), ("4", false)] {
        assert_eq!(index.entry_of_agent(&id(A), name, 0).is_some(), of_a, "{name}");
    }
}

#[test]
fn an_alias_needs_all_its_selectors() {
    let index = index(
        vec![
            entry("alias", "/cluster", "/spire/server", &["x", "y"]),
            entry("child", "/shop", "/cluster", &["uid:1"]),
        ],
        vec![agent(A, &["y", "z", "x"]), agent(B, &["x"])],
    );
    assert_eq!(view(&index, A), ["alias", "child"]);
    assert_eq!(view(&index, B), [] as [&str; 0]);
    assert!(index.entry_of_agent(&id(A), "child", 0).is_some());
    assert!(index.entry_of_agent(&id(B), "child", 0).is_none());
}

#[test]
fn circles_end() {
    let index = index(
        vec![entry("1", "/x", "/y", &["a"]), entry("2", "/y", "/x", &["a"]), entry("3", "/x", A, &["a"])],
        vec![agent(A, &[])],
    );
    assert_eq!(view(&index, A), ["1", "2", "3"]);
    assert!(index.entry_of_agent(&id(B), "1", 0).is_none());
}

#[test]
fn a_change_affects_those_above_before_and_after() {
    let mut index = index(
        vec![entry("1", "/shop", A, &["uid:1"]), entry("alias", "/cluster", "/spire/server", &["x"])],
        vec![agent(A, &[]), agent(B, &["x"])],
    );
    let moved = entry("1", "/shop", "/cluster", &["uid:1"]);
    assert_eq!(set(&mut index, "1", Some(moved)), BTreeSet::from([A.into(), B.into(), "/cluster".into()]));
    assert_eq!((view(&index, A), view(&index, B)), (vec![], vec!["1".to_owned(), "alias".to_owned()]));

    // Losing the alias loses what is below it.
    assert_eq!(set(&mut index, "alias", None), BTreeSet::from([B.into()]));
    assert_eq!(view(&index, B), [] as [&str; 0]);
    assert_eq!(index.counts(), (1, 2, 0));
}

#[test]
fn a_change_of_an_agent_moves_it_to_its_new_aliases() {
    let mut index = index(vec![entry("alias", "/cluster", "/spire/server", &["x"])], vec![agent(A, &[])]);
    let mut affected = Affected::default();
    index.set_agent(&id(A), Some(agent(A, &["x"])), &mut affected);
    assert_eq!(view(&index, A), ["alias"]);
    index.set_agent(&id(A), None, &mut affected);
    assert_eq!(view(&index, A), [] as [&str; 0]);
    assert_eq!(affected, Affected::Agents(HashSet::from([id(A)])));
    assert!(index.tables.agents_by_selector.is_empty());
}

#[test]
fn what_is_removed_leaves_nothing_behind() {
    let mut index = index(vec![], vec![]);
    for name in ["1", "2", "3"] {
        set(&mut index, name, Some(entry(name, "/shop", A, &["uid:1"])));
    }
    set(&mut index, "2", Some(entry("2", "/cluster", "/spire/server", &["x"])));
    for name in ["1", "2", "3"] {
        set(&mut index, name, None);
    }
    let tables = &index.tables;
    assert!(tables.entries.is_empty() && tables.by_parent.is_empty());
    assert!(tables.by_spiffe_id.is_empty() && tables.aliases.is_empty());
}
