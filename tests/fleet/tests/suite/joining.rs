//! Machines that join long after their token was made.

use std::time::Duration;

use svidecar_fleet::{Agent, Domain};

const DAY: Duration = Duration::from_secs(86_400);

/// A token of a month in a trust domain whose authorities live for a day; and one that names a root, as tokens were before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_its_life_whatever_becomes_of_authorities() {
    let mut domain = Domain::start_ago(30 * DAY, |_| {}).await;
    let token = domain.token(31 * DAY).await;
    domain.stop().await;
    domain.pass(30 * DAY);
    domain.start().await;
    let agent = Agent::start(domain.agent("late", &token));
    let bare = token.split_once('.').unwrap().0;
    assert_eq!(agent.in_sync().await, format!("spiffe://demo.org/spire/agent/join_token/{bare}"));
    agent.stop().await;
}

/// Somebody else's server at the address has another key, and gets no token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_of_the_same_name_is_not_believed() {
    let (domain, other) = (Domain::new().await, Domain::new().await);
    let token = domain.token(DAY).await;
    let mut settings = other.agent("lost", &token);
    settings.server_port = other.settings.bind_port;
    let error = Agent::start(settings).ended().await;
    assert_eq!(error.code(), "pin_mismatch");
}
