//! Agents that come back by a key that was signed for, and those who do not.

use svidecar_id::SpiffeId;

use super::{
    agents::{joined, signed, user},
    fixture::{Fixture, NOW, agent, eviction},
};
use crate::store::{AgentRecord, Member, TokenRecord};

fn member(id: &SpiffeId, key: &str, issued_at: i64) -> Member {
    Member {
        id: id.clone(),
        key_sha256: key.to_owned(),
        issued_at,
        serial: "77".to_owned(),
        from: "10.0.0.1".to_owned(),
    }
}

pub async fn an_agent_comes_back_by_a_key_that_is_known_or_newer_than_all_that_is_known(f: Fixture) {
    let agent = agent("/spire/agent/1");
    f.store.put_agent(agent.clone(), None).await.unwrap();
    let back = async |key, issued_at, new: &str| {
        let member = member(&agent.id, key, issued_at);
        f.store.bring_agent_back(member, signed("9", new, NOW + 100)).await
    };
    // The key in use, twice: the first answer was lost.
    for new in ["k2", "k3"] {
        let record = back("k1", NOW, new).await.unwrap();
        assert_eq!((record.serial.as_str(), record.key_sha256.as_str()), ("1001", "k1"));
        assert_eq!((record.new_serial.as_str(), record.new_key_sha256.as_str()), ("9", new));
    }
    // The answer that it got last: its key is the one in use from now on, and the one before is none.
    assert_eq!(back("k3", NOW + 100, "k4").await.unwrap().key_sha256, "k3");
    for (key, issued_at) in [("k1", NOW), ("other", NOW + 100)] {
        assert_eq!(back(key, issued_at, "k9").await.unwrap_err().code(), "agent_superseded");
    }
    // Of what was signed after all that the store knows, the store was restored without it.
    assert_eq!(back("k7", NOW + 101, "k8").await.unwrap().key_sha256, "k7");
}

pub async fn an_agent_that_is_not_known_comes_back_unless_it_was_deleted_or_banned(f: Fixture) {
    let agent = agent("/spire/agent/join_token/1");
    let back = async || f.store.bring_agent_back(member(&agent.id, "k1", NOW), signed("9", "k2", NOW)).await;
    let record = back().await.unwrap();
    assert!(record.joined_by_token() && !record.is_banned());
    f.store.ban_agent(&agent.id, eviction()).await.unwrap();
    assert_eq!(back().await.unwrap_err().code(), "agent_banned");
    f.store.delete_agent(&agent.id, eviction()).await.unwrap();
    assert_eq!(back().await.unwrap_err().code(), "agent_evicted");
    // It is remembered for as long as it could come back.
    assert_eq!(f.store.prune_evictions(NOW + 7200).await.unwrap(), 0);
    assert_eq!(back().await.unwrap_err().code(), "agent_evicted");
    // The ban and the deletion.
    assert_eq!(f.store.prune_evictions(NOW + 7201).await.unwrap(), 2);
    // Who attests anew is an agent again, and deleted again if need be.
    f.store.put_agent(agent.clone(), None).await.unwrap();
    back().await.unwrap();
}

/// The key that was thrown out stays out, and whoever has the machine's next key comes back.
pub async fn an_evicted_key_of_a_reusable_token_does_not_come_back_also_once_another_joined(f: Fixture) {
    let (agent, _) = joined(&f, true).await;
    let back = async |key, issued_at| {
        f.store.bring_agent_back(member(&agent.id, key, issued_at), signed("9", "new", NOW + 4)).await
    };
    f.store.delete_agent(&agent.id, eviction()).await.unwrap();
    assert_eq!(back("key", NOW).await.unwrap_err().code(), "agent_evicted");
    f.store.consume_token("t", user(&agent, "next", NOW + 3)).await.unwrap();
    let next = AgentRecord { key_sha256: "next".to_owned(), issued_at: NOW + 3, ..agent.clone() };
    f.store.put_agent(next, Some(("t", "next"))).await.unwrap();
    assert_eq!(back("key", NOW).await.unwrap_err().code(), "agent_evicted");
    assert_eq!(back("next", NOW + 3).await.unwrap().key_sha256, "next");
}

/// In a store that was restored from before an agent joined, its token looks as if nobody had used it.
pub async fn an_agent_that_is_not_known_binds_the_token_that_it_came_by(f: Fixture) {
    let agent = agent("/spire/agent/join_token/t");
    f.store.create_token(TokenRecord::new("t".to_owned(), NOW + 600, true), None, NOW).await.unwrap();
    f.store.bring_agent_back(member(&agent.id, "k1", NOW), signed("9", "k2", NOW)).await.unwrap();
    let used = f.store.get_token("t").await.unwrap().unwrap().used.unwrap();
    assert_eq!((used.agent, used.key_fingerprint.as_str()), (Some(agent.id.clone()), "k1"));
    f.store.ban_agent(&agent.id, eviction()).await.unwrap();
    let refused = f.store.consume_token("t", user(&agent, "thief", NOW + 1)).await.unwrap_err();
    assert_eq!(refused.code(), "token_evicted");
}
