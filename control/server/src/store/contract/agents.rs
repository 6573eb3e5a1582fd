//! Agents: renewing, banning, deleting, listing.

use super::fixture::*;
use crate::store::*;

pub async fn a_renewed_svid_becomes_the_one_in_use_when_it_is_seen(f: Fixture) {
    let first = agent("/spire/agent/1");
    f.store.put_agent(first.clone(), None).await.unwrap();
    let renewed = f.store.renew_agent(&first.id, signed("2002", "k2", NOW + 3600)).await.unwrap();
    assert_eq!((renewed.serial.as_str(), renewed.new_serial.as_str()), ("1001", "2002"));
    let unchanged = f.store.activate_agent_serial(&first.id, "1001".to_owned()).await.unwrap();
    assert_eq!(unchanged, renewed);
    let active = f.store.activate_agent_serial(&first.id, "2002".to_owned()).await.unwrap();
    let (serial, key_sha256) = ("2002".to_owned(), "k2".to_owned());
    let (expires_at, issued_at, member_until) = (NOW + 7200, NOW + 3600, NOW + 10_800);
    let generation = 2;
    let expected =
        AgentRecord { serial, key_sha256, expires_at, generation, issued_at, member_until, ..first };
    assert_eq!(active, expected);
    assert_eq!(f.store.get_agent(&active.id).await.unwrap(), Some(active));
}

pub async fn a_ban_holds_until_the_agent_is_deleted(f: Fixture) {
    let agent = agent("/spire/agent/1");
    f.store.put_agent(agent.clone(), None).await.unwrap();
    assert!(f.store.ban_agent(&agent.id, eviction()).await.unwrap().agent.is_banned());
    for refused in [
        f.store.put_agent(agent.clone(), None).await.unwrap_err(),
        f.store.renew_agent(&agent.id, signed("3", "k3", NOW)).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), "agent_banned");
    }
    assert!(f.store.activate_agent_serial(&agent.id, String::new()).await.unwrap().is_banned());
    f.store.delete_agent(&agent.id, eviction()).await.unwrap();
    f.store.put_agent(agent, None).await.unwrap();
}

/// An SVID for this key, of an hour and with as much of grace.
pub(super) fn signed(serial: &str, key: &str, at: i64) -> Signed {
    Signed {
        serial: serial.to_owned(),
        expires_at: at + 3600,
        key_sha256: key.to_owned(),
        generation: 0,
        issued_at: at,
        member_until: at + 7200,
    }
}

/// An agent that joined by a token, the alias of its token, and an entry below each.
pub(super) async fn joined(f: &Fixture, reusable: bool) -> (AgentRecord, [EntryRecord; 3]) {
    let agent = agent("/spire/agent/join_token/t");
    let selector = Selector::new("spiffe_id", agent.id.as_str());
    let alias = EntryRecord::new(id("/node-1"), agent.id.clone(), vec![selector]);
    let token = TokenRecord::new("t".to_owned(), NOW + 600, reusable);
    let Some(Created::New(alias)) = f.store.create_token(token, Some(alias), NOW).await.unwrap() else {
        panic!("the alias was there")
    };
    f.store.consume_token("t", user(&agent, "key", NOW)).await.unwrap();
    f.store.put_agent(agent.clone(), Some(("t", "key"))).await.unwrap();
    let direct = f.add(EntryRecord { parent_id: agent.id.clone(), ..entry("/shop", &["u:1"]) }).await;
    let by_alias = f.add(EntryRecord { parent_id: id("/node-1"), ..entry("/intern", &["u:2"]) }).await;
    (agent, [alias, direct, by_alias])
}

pub(super) fn user(agent: &AgentRecord, key: &str, at: i64) -> TokenUse {
    TokenUse {
        agent: Some(agent.id.clone()),
        key_fingerprint: key.to_owned(),
        from: "10.0.0.1".to_owned(),
        at,
    }
}

/// That nobody gets in by the token, with any of these keys, and all are told who evicted the agent, and when.
async fn assert_barred(f: &Fixture, agent: &AgentRecord, keys: &[&str]) {
    for key in keys {
        let refused = f.store.consume_token("t", user(agent, key, NOW + 2)).await.unwrap_err();
        let StoreError::TokenEvicted { by, at } = refused else { panic!("{refused}") };
        assert_eq!((by, at), (eviction().by, eviction().at), "{key}");
        // Nor does who had used it before that, and was on the way.
        let refused = f.store.put_agent(agent.clone(), Some(("t", key))).await.unwrap_err();
        assert!(["token_evicted", "agent_banned"].contains(&refused.code().name()), "{refused}");
    }
}

pub async fn an_evicted_agent_takes_its_token_and_its_entries_with_it(f: Fixture) {
    let (agent, [alias, direct, by_alias]) = joined(&f, false).await;
    let removed = f.store.delete_agent(&agent.id, eviction()).await.unwrap();
    assert_eq!((removed.agent, removed.entries), (agent.clone(), vec![alias, direct]));
    assert_eq!(f.store.snapshot().await.unwrap().entries, [by_alias]);
    assert_barred(&f, &agent, &["key", "another"]).await;
    assert_eq!(f.store.delete_agent(&agent.id, eviction()).await.unwrap_err().code(), "not_found");
}

pub async fn a_ban_ends_a_token_whatever_it_is(f: Fixture) {
    let (agent, [alias, direct, by_alias]) = joined(&f, true).await;
    let removed = f.store.ban_agent(&agent.id, eviction()).await.unwrap();
    assert_eq!(removed.entries, [alias, direct]);
    assert_eq!(f.store.snapshot().await.unwrap().entries, [by_alias]);
    assert_barred(&f, &agent, &["key", "another"]).await;
    // And its eviction does not begin it again.
    f.store.delete_agent(&agent.id, Eviction { by: "later".to_owned(), at: NOW + 9 }).await.unwrap();
    assert_barred(&f, &agent, &["key", "another"]).await;
}

pub async fn a_reusable_token_lets_the_next_key_of_an_evicted_machine_in_with_its_entries(f: Fixture) {
    let (agent, entries) = joined(&f, true).await;
    assert!(f.store.delete_agent(&agent.id, eviction()).await.unwrap().entries.is_empty());
    assert_barred(&f, &agent, &["key"]).await;
    f.store.consume_token("t", user(&agent, "next", NOW + 3)).await.unwrap();
    f.store.put_agent(agent.clone(), Some(("t", "next"))).await.unwrap();
    assert_eq!(f.store.snapshot().await.unwrap().entries, entries);
    let token = f.store.get_token("t").await.unwrap().unwrap();
    assert_eq!(token.barred, [Barred { key: Some("key".to_owned()), eviction: eviction() }]);
    // Once the token is deleted, nobody can be that agent again.
    f.store.delete_token("t").await.unwrap();
    assert_eq!(f.store.delete_agent(&agent.id, eviction()).await.unwrap().entries.len(), 2);
}

pub async fn an_agent_that_may_attest_again_keeps_its_entries(f: Fixture) {
    let agent = AgentRecord { attestation_type: "x509pop".to_owned(), ..agent("/spire/agent/x509pop/1") };
    f.store.put_agent(agent.clone(), None).await.unwrap();
    let own = f.add(EntryRecord { parent_id: agent.id.clone(), ..entry("/shop", &["u:1"]) }).await;
    assert!(f.store.delete_agent(&agent.id, eviction()).await.unwrap().entries.is_empty());
    assert_eq!(f.store.snapshot().await.unwrap().entries, [own]);
}

pub async fn agents_are_listed_by_filter_and_in_pages(f: Fixture) {
    let (one, two) = (agent("/spire/agent/1"), agent("/spire/agent/2"));
    let three = AgentRecord {
        attestation_type: "x509pop".to_owned(),
        can_reattest: true,
        expires_at: NOW - 10,
        selectors: selectors(&["x509pop:cn:a", "x509pop:cn:b"]),
        ..agent("/spire/agent/3")
    };
    for agent in [&one, &two, &three] {
        f.store.put_agent(agent.clone(), None).await.unwrap();
    }
    f.store.ban_agent(&two.id, eviction()).await.unwrap();
    let of = AgentFilter::default;
    for (filter, expected) in [
        (of(), &["/1", "/2", "/3"][..]),
        (AgentFilter { attestation_type: Some("x509pop".to_owned()), ..of() }, &["/3"]),
        (AgentFilter { banned: Some(true), ..of() }, &["/2"]),
        (AgentFilter { banned: Some(false), ..of() }, &["/1", "/3"]),
        (AgentFilter { can_reattest: Some(true), ..of() }, &["/3"]),
        (AgentFilter { expires_before: Some(NOW), ..of() }, &["/3"]),
        (AgentFilter { selectors: Some((Match::Superset, selectors(&["x509pop:cn:a"]))), ..of() }, &["/3"]),
        (AgentFilter { selectors: Some((Match::Exact, selectors(&["x509pop:cn:a"]))), ..of() }, &[]),
    ] {
        let found = f.store.list_agents(filter.clone(), PageRequest::default()).await.unwrap().items;
        let names: Vec<_> =
            found.iter().map(|agent| agent.id.path().trim_start_matches("/spire/agent")).collect();
        assert_eq!(names, expected, "{filter:?}");
        assert_eq!(f.store.count_agents(filter).await.unwrap(), expected.len() as u64);
    }
    let page = f.store.list_agents(of(), PageRequest { size: 2, token: String::new() }).await.unwrap();
    let rest = f.store.list_agents(of(), PageRequest { size: 2, token: page.next }).await.unwrap();
    assert_eq!(rest.items, std::slice::from_ref(&three));
    f.store.set_agent_version(&one.id, "1.2.3".to_owned()).await.unwrap();
    assert_eq!(f.store.get_agent(&one.id).await.unwrap().unwrap().agent_version, "1.2.3");
}
