//! Agents that come back by a key that was signed for, and those who do not.

use svidecar_id::SpiffeId;

use super::{
    agents::{joined, signed, user},
    fixture::{Fixture, NOW, agent, eviction},
};
use crate::store::{AgentRecord, Member, TokenRecord};

fn member(id: &SpiffeId, key: &str, generation: i64) -> Member {
    member_of(id, key, generation, NOW)
}

fn member_of(id: &SpiffeId, key: &str, generation: i64, issued_at: i64) -> Member {
    Member {
        id: id.clone(),
        key_sha256: key.to_owned(),
        generation,
        issued_at,
        serial: "77".to_owned(),
        from: "10.0.0.1".to_owned(),
    }
}

pub async fn an_agent_comes_back_by_a_key_that_is_known_or_newer_than_all_that_is_known(f: Fixture) {
    let agent = agent("/spire/agent/1");
    f.store.put_agent(agent.clone(), None).await.unwrap();
    let back = async |key, generation, new: &str| {
        let member = member(&agent.id, key, generation);
        f.store.bring_agent_back(member, signed("9", new, NOW + 100)).await
    };
    // The key in use, twice: the first answer was lost.
    for (new, generation) in [("k2", 2), ("k3", 3)] {
        let record = back("k1", 1, new).await.unwrap();
        assert_eq!((record.serial.as_str(), record.key_sha256.as_str()), ("1001", "k1"));
        assert_eq!((record.new_serial.as_str(), record.new_key_sha256.as_str()), ("9", new));
        assert_eq!(record.generation, generation);
    }
    // The answer that it got last: its key is the one in use from now on, and the one before is none.
    assert_eq!(back("k3", 3, "k4").await.unwrap().key_sha256, "k3");
    for (key, generation) in [("k1", 1), ("other", 4)] {
        assert_eq!(back(key, generation, "k9").await.unwrap_err().code(), "agent_superseded");
    }
    // Of what was signed after all that the store knows, the store was restored without it.
    let record = back("k7", 7, "k8").await.unwrap();
    assert_eq!((record.key_sha256.as_str(), record.generation), ("k7", 8));
}

pub async fn an_agent_that_is_not_known_comes_back_unless_it_was_deleted_or_banned(f: Fixture) {
    let agent = agent("/spire/agent/join_token/1");
    let back = async || f.store.bring_agent_back(member(&agent.id, "k1", 1), signed("9", "k2", NOW)).await;
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

/// An SVID that was signed while the clock was a day ahead makes nothing that follows an older one.
pub async fn no_clock_says_which_of_two_keys_is_the_later_one(f: Fixture) {
    let ahead = AgentRecord { issued_at: NOW + 100_000, ..agent("/spire/agent/1") };
    f.store.put_agent(ahead.clone(), None).await.unwrap();
    let later = member_of(&ahead.id, "k7", 2, NOW);
    assert_eq!(f.store.bring_agent_back(later, signed("9", "k8", NOW)).await.unwrap().key_sha256, "k7");
}

/// The key that was thrown out stays out, and whoever has the machine's next key comes back.
pub async fn an_evicted_key_of_a_reusable_token_does_not_come_back_also_once_another_joined(f: Fixture) {
    let (agent, _) = joined(&f, true).await;
    let back = async |key, issued_at| {
        f.store.bring_agent_back(member_of(&agent.id, key, 1, issued_at), signed("9", "new", NOW + 4)).await
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
    f.store.bring_agent_back(member(&agent.id, "k1", 1), signed("9", "k2", NOW)).await.unwrap();
    let used = f.store.get_token("t").await.unwrap().unwrap().used.unwrap();
    assert_eq!((used.agent, used.key_fingerprint.as_str()), (Some(agent.id.clone()), "k1"));
    f.store.ban_agent(&agent.id, eviction()).await.unwrap();
    let refused = f.store.consume_token("t", user(&agent, "thief", NOW + 1)).await.unwrap_err();
    assert_eq!(refused.code(), "token_evicted");
}
