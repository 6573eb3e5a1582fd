//! Disks that were lost, and backups that are older than the agents.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use svidecar_fleet::{Agent, Domain, write_secret};

const DAY: Duration = Duration::from_secs(86_400);
const SHOP: &str = "spiffe://demo.org/shop";
/// Registered after the accident: who serves it has its server again.
const LATER: &str = "spiffe://demo.org/zoo";

/// Agents joined, and others renewed, after the backup; then the machine is lost, with all authorities of that time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_restored_from_before_its_agents_joined_and_renewed_serves_them_all() {
    let mut domain = Domain::start_ago(Duration::ZERO, |settings| {
        settings.agent_ttl = Some("2s".parse().unwrap());
    })
    .await;
    let renewed_settings = domain.agent("renewed", &domain.token(DAY).await);
    let renewed = Agent::start(renewed_settings);
    let renewed_id = renewed.in_sync().await;
    domain.register(SHOP, &renewed_id).await;
    let (file, key) = (domain.path("backup"), domain.path("key"));
    write_secret(&key, "a passphrase that nobody knows\n");
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap();
    let exposed = domain.cli(&["backup", file, "--key-file", key]).await;
    assert!(exposed.unwrap_err().contains("`chmod o-rwx "));
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    domain.cli(&["backup", file, "--key-file", key]).await.unwrap();
    assert!(!fs::read(file).unwrap().windows(11).any(|window| window == b"PRIVATE KEY"));

    let joined_settings = domain.agent("joined", &domain.token(DAY).await);
    let joined = Agent::start(joined_settings.clone());
    let joined_id = joined.in_sync().await;
    renewed.svid_ended().await;
    renewed.in_sync().await;
    joined.stop().await;
    domain.stop().await;
    fs::remove_dir_all(&domain.settings.data_dir).unwrap();
    let restore = ["restore", file, "--key-file", key];
    assert!(domain.offline(&restore).await.unwrap_err().contains("run it again with --yes"));
    let wrong = domain.path("wrong-key");
    write_secret(&wrong, "another passphrase altogether");
    let refused = domain.offline(&["restore", file, "--key-file", wrong.to_str().unwrap(), "--yes"]).await;
    assert!(refused.unwrap_err().contains("does not open"));
    domain.offline(&["restore", file, "--key-file", key, "--yes"]).await.unwrap();
    domain.start().await;

    let joined = Agent::start(joined_settings);
    domain.register(LATER, &renewed_id).await;
    renewed.serves(&[SHOP, LATER]).await;
    assert_eq!(renewed.in_sync().await, renewed_id);
    // What was registered since has to be made again.
    domain.register(LATER, &joined_id).await;
    joined.serves(&[LATER]).await;
    assert_eq!(joined.in_sync().await, joined_id);
    let running = domain.offline(&["restore", file, "--key-file", key, "--yes"]).await;
    assert!(running.unwrap_err().contains("in use by another svidecar-server"));
    renewed.stop().await;
    joined.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_keys_gets_its_agents_back_by_new_tokens() {
    let mut domain = Domain::new().await;
    let settings = domain.agent("one", &domain.token(DAY).await);
    let agent = Agent::start(settings.clone());
    let id = agent.in_sync().await;
    domain.register(SHOP, &id).await;
    agent.serves(&[SHOP]).await;
    domain.stop().await;
    fs::remove_dir_all(domain.settings.data_dir.join("keys")).unwrap();
    domain.start().await;
    // It keeps what it has, and says what is missing.
    agent.status(|status| status.problem.contains("is not the one that this agent joined")).await;
    agent.serves(&[SHOP]).await;
    write_secret(&settings.join_token_file.unwrap(), &domain.token(DAY).await);
    let new_id = agent.status(|status| status.agent_id != id && status.server_connected).await.agent_id;
    domain.register("spiffe://demo.org/shop-again", &new_id).await;
    agent.serves(&["spiffe://demo.org/shop-again"]).await;
    agent.stop().await;
}
