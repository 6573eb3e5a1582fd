//! Agents: renewing, banning, deleting, listing.

use super::fixture::*;
use crate::store::*;

pub async fn a_renewed_svid_becomes_the_one_in_use_when_it_is_seen(f: Fixture) {
    let first = agent("/spire/agent/1");
    f.store.put_agent(first.clone(), None).await.unwrap();
    let renewed = f.store.renew_agent(&first.id, "2002".to_owned(), NOW + 7200).await.unwrap();
    assert_eq!((renewed.serial.as_str(), renewed.new_serial.as_str()), ("1001", "2002"));
    let unchanged = f.store.activate_agent_serial(&first.id, "1001".to_owned()).await.unwrap();
    assert_eq!(unchanged, renewed);
    let active = f.store.activate_agent_serial(&first.id, "2002".to_owned()).await.unwrap();
    assert_eq!(active, AgentRecord { serial: "2002".to_owned(), expires_at: NOW + 7200, ..first });
    assert_eq!(f.store.get_agent(&active.id).await.unwrap(), Some(active));
}

pub async fn a_ban_holds_until_the_agent_is_deleted(f: Fixture) {
    let agent = agent("/spire/agent/1");
    f.store.put_agent(agent.clone(), None).await.unwrap();
    assert!(f.store.ban_agent(&agent.id).await.unwrap().is_banned());
    for refused in [
        f.store.put_agent(agent.clone(), None).await.unwrap_err(),
        f.store.renew_agent(&agent.id, "3".to_owned(), 1).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), "agent_banned");
    }
    assert!(f.store.activate_agent_serial(&agent.id, String::new()).await.unwrap().is_banned());
    f.store.delete_agent(&agent.id).await.unwrap();
    f.store.put_agent(agent, None).await.unwrap();
}

pub async fn deleting_an_agent_takes_its_alias_and_nothing_else(f: Fixture) {
    let agent = agent("/spire/agent/join_token/t");
    f.store.put_agent(agent.clone(), None).await.unwrap();
    let token = TokenRecord { token: "t".to_owned(), expires_at: NOW + 1, reusable: false, used: None };
    let selector = Selector::new("spiffe_id", agent.id.as_str());
    let alias = EntryRecord::new(id("/node-1"), agent.id.clone(), vec![selector]);
    f.store.create_token(token, Some(alias), NOW).await.unwrap();
    let own = f.add(EntryRecord { parent_id: agent.id.clone(), ..entry("/shop", &["u:1"]) }).await;
    f.store.delete_agent(&agent.id).await.unwrap();
    assert_eq!(f.store.snapshot().await.unwrap().entries, [own]);
    assert_eq!(f.store.delete_agent(&agent.id).await.unwrap_err().code(), "not_found");
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
    f.store.ban_agent(&two.id).await.unwrap();
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
