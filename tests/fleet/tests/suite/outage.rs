//! Outages that outlast what agents have, servers that know less than they did, and what is final all the same.

use std::{fs, path::Path, time::Duration};

use svidecar_agent::error::AgentError;
use svidecar_api::spire::api::server::agent::v1::{
    BanAgentRequest, DeleteAgentRequest, agent_client::AgentClient,
};
use svidecar_config::agent::AgentSettings;
use svidecar_fleet::{Agent, Domain, write_secret};
use svidecar_id::SpiffeId;

const DAY: Duration = Duration::from_secs(86_400);
const SHOP: &str = "spiffe://demo.org/shop";
/// Registered after the accident: who serves it has its server again.
const LATER: &str = "spiffe://demo.org/zoo";

/// An agent with a workload, whose token is gone.
async fn joined(domain: &Domain, name: &str) -> (AgentSettings, Agent, String) {
    let token = domain.token(DAY).await;
    let mut settings = domain.agent(name, &token);
    let agent = Agent::start(settings.clone());
    let id = agent.in_sync().await;
    domain.register(SHOP, &id).await;
    agent.serves(&[SHOP]).await;
    fs::remove_file(settings.join_token_file.take().unwrap()).unwrap();
    (settings, agent, id)
}

/// A server whose agents' SVIDs end within seconds.
async fn hasty() -> Domain {
    Domain::start_ago(Duration::ZERO, |settings| {
        settings.agent_ttl = Some("2s".parse().unwrap());
    })
    .await
}

/// What is left of a server whose database and authorities are gone.
fn lose_all_but_the_bootstrap_keys(domain: &Domain) {
    for entry in fs::read_dir(&domain.settings.data_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    for entry in fs::read_dir(domain.settings.data_dir.join("keys")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("bootstrap-") {
            fs::remove_file(path).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_runs_outlives_an_outage_longer_than_its_svid() {
    let mut domain = hasty().await;
    let (_, agent, id) = joined(&domain, "one").await;
    domain.stop().await;
    agent.svid_ended().await;
    domain.start().await;
    domain.register(LATER, &id).await;
    agent.serves(&[SHOP, LATER]).await;
    assert_eq!(agent.in_sync().await, id);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_off_for_longer_than_its_svid_starts_without_a_token() {
    let domain = hasty().await;
    let (settings, agent, id) = joined(&domain, "one").await;
    agent.svid_ends_while_off().await;
    let agent = Agent::start(settings);
    domain.register(LATER, &id).await;
    agent.serves(&[SHOP, LATER]).await;
    assert_eq!(agent.in_sync().await, id);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_grace_only_a_token_helps() {
    let domain = Domain::start_ago(Duration::ZERO, |settings| {
        settings.agent_ttl = Some("2s".parse().unwrap());
        settings.agent_grace = "0s".parse().unwrap();
    })
    .await;
    let (mut settings, agent, _) = joined(&domain, "one").await;
    agent.svid_ends_while_off().await;
    let error = Agent::start(settings.clone()).ended().await;
    assert!(matches!(error, AgentError::Expired), "{error}");
    let file = settings.socket_path.with_file_name("token");
    write_secret(&file, &domain.token(DAY).await);
    settings.join_token_file = Some(file);
    let agent = Agent::start(settings);
    agent.in_sync().await;
    agent.stop().await;
}

/// The database, the CA's keys, all: agents do not know its authorities, and it knows no agent. By the bootstrap keys
/// both know each other again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_database_takes_its_agents_back() {
    let mut domain = Domain::new().await;
    let (_, running, id) = joined(&domain, "running").await;
    let (off_settings, off, off_id) = joined(&domain, "off").await;
    off.stop().await;
    domain.stop().await;
    lose_all_but_the_bootstrap_keys(&domain);
    domain.start().await;
    for (agent, id) in [(running, id), (Agent::start(off_settings), off_id)] {
        domain.register(LATER, &id).await;
        agent.serves(&[LATER]).await;
        assert_eq!(agent.in_sync().await, id);
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_and_a_ban_are_final_and_move_what_there_was_aside() {
    let domain = Domain::new().await;
    for ban in [false, true] {
        let (settings, agent, id) = joined(&domain, &format!("ban-{ban}")).await;
        let copied = domain.path("copied");
        copy(&settings.data_dir, &copied);
        let id = Some((&SpiffeId::parse(&id).unwrap()).into());
        let mut admin = AgentClient::new(domain.admin().await);
        if ban {
            admin.ban_agent(BanAgentRequest { id }).await.unwrap();
        } else {
            admin.delete_agent(DeleteAgentRequest { id }).await.unwrap();
        }
        let error = agent.ended().await;
        assert!(matches!(error, AgentError::Evicted { .. }), "{error}");
        assert!(!settings.data_dir.join("agent.json").exists());
        assert!(settings.data_dir.join("evicted/agent.json").exists());
        // Nor does a copy of it come back.
        copy(&copied, &settings.data_dir);
        let error = Agent::start(settings.clone()).ended().await;
        assert!(matches!(error, AgentError::Evicted { .. }), "{error}");
    }
}

/// Whoever has an old copy of an agent's disk has not its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_an_agent_is_refused_and_keeps_what_it_has() {
    let domain = hasty().await;
    let (settings, agent, _) = joined(&domain, "one").await;
    let copied = domain.path("copied");
    copy(&settings.data_dir, &copied);
    agent.svid_ended().await;
    // Renewed meanwhile.
    agent.in_sync().await;
    let mut other = domain.agent("other", "unused");
    other.join_token_file = None;
    copy(&copied, &other.data_dir);
    let error = Agent::start(other.clone()).ended().await;
    assert!(matches!(error, AgentError::Expired), "{error}");
    assert!(other.data_dir.join("agent.json").exists());
    agent.in_sync().await;
    agent.stop().await;
}
