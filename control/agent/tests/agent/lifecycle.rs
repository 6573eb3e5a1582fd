//! Renewal, restarts, a server that is away, rotation, eviction.

use std::{sync::atomic::Ordering, time::Duration};

use svidecar_agent::error::AgentError;
use svidecar_api::{status::Reason, svidecar::agent::v1::GetStatusRequest, workload::JwtsvidRequest};
use svidecar_authority::bundle::Bundle;

use crate::harness::{Bed, ids, my_uid, next, request, soon};

/// A restart needs no token, and cached identities are served while the server is away.
#[tokio::test]
async fn a_restart_serves_from_disk_while_the_server_is_away() {
    let mut bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let before = next(&mut agent.fetch().await.unwrap()).await;
    agent.stop().await;
    bed.stop_server().await;

    let mut settings = bed.settings();
    settings.join_token = None;
    let agent = bed.start(settings);
    agent.ready().await;
    let mut stream = agent.fetch().await.unwrap();
    assert_eq!(next(&mut stream).await, before);
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), 1);

    // The server comes back, and what is new arrives in the stream that was open all the while.
    bed.world.create_entry("e2", "/new", &[&my_uid()]);
    bed.start_server();
    assert_eq!(ids(&next(&mut stream).await), ["spiffe://demo.org/mine", "spiffe://demo.org/new"]);
    agent.stop().await;
}

/// The server takes an old SVID no more once the new one was used, so no call may go on with the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_renews_itself_and_goes_on_with_the_new_svid() {
    let bed = Bed::new(true);
    *bed.world.agent_ttl.lock().unwrap() = Duration::from_secs(2);
    bed.world.create_entry("e0", "/0", &[&my_uid()]);
    let mut renewals = bed.world.renewals.subscribe();
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    for round in 1..=3 {
        soon(renewals.wait_for(|count| *count >= round)).await.unwrap();
        bed.world.create_entry(&format!("e{round}"), &format!("/{round}"), &[&my_uid()]);
        // What was under way when the agent renewed itself may come before.
        while next(&mut stream).await.svids.len() <= round {}
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_workloads_svid_is_renewed_before_it_ends() {
    let bed = Bed::new(true);
    *bed.world.svid_ttl.lock().unwrap() = Duration::from_secs(2);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    let first = next(&mut stream).await;
    let second = next(&mut stream).await;
    assert_eq!(ids(&first), ids(&second));
    assert_ne!(first.svids[0].x509_svid, second.svids[0].x509_svid);
    // A new key, too.
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key);
    agent.stop().await;
}

#[tokio::test]
async fn a_new_root_reaches_workloads_and_the_agent_follows_it() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    bed.world.rotate();
    let message = next(&mut stream).await;
    assert_eq!(Bundle::certificates_from_der(&message.svids[0].bundle).unwrap().len(), 2);
    // Signed by the new root now.
    bed.world.create_entry("e2", "/new", &[&my_uid()]);
    assert_eq!(next(&mut stream).await.svids.len(), 2);
    agent.stop().await;
}

/// Servers end connections that are old, and one may end while a call is on its way.
#[tokio::test]
async fn a_call_on_a_connection_that_ends_is_made_again_and_changes_come_on_another() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    let mut client = agent.client().await;
    for round in 1..=3 {
        bed.world.cut_at_the_next_word();
        // No token is used twice here: each is signed by the server.
        let message =
            JwtsvidRequest { audience: vec![format!("audience-{round}")], spiffe_id: String::new() };
        let answer = soon(client.fetch_jwtsvid(request(message))).await.unwrap();
        assert_eq!(answer.into_inner().svids.len(), 1);
    }
    bed.world.create_entry("e2", "/new", &[&my_uid()]);
    assert_eq!(next(&mut stream).await.svids.len(), 2);
    assert_eq!(bed.world.watches.load(Ordering::Relaxed), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_banned_agent_ends_and_leaves_no_identities_in_use() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    next(&mut agent.fetch().await.unwrap()).await;
    bed.world.refuse(Some(Reason::AgentBanned));
    let error = agent.ended().await;
    assert!(matches!(error, AgentError::Evicted { .. }), "{error}");
    let data = bed.settings().data_dir;
    assert!(!data.join("agent.json").exists() && !data.join("workloads.json").exists());
    assert!(data.join("evicted/agent.json").exists());
}

/// A server says so also when it was restored from a backup that is older than the agent.
#[tokio::test]
async fn a_server_that_does_not_know_the_agent_takes_nothing_from_it() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    let mut held = vec!["spiffe://demo.org/mine".to_owned()];
    for reason in [Reason::AgentNotAttested, Reason::AgentNotActive] {
        bed.world.refuse(Some(reason));
        soon(async {
            let said =
                async || agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
            while !said().await.problem.contains("keeps what it has") {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(ids(&next(&mut agent.fetch().await.unwrap()).await), held);
        bed.world.refuse(None);
        let name = format!("/after-{}", reason.as_str_name().to_lowercase());
        bed.world.create_entry(&name, &name, &[&my_uid()]);
        let path = format!("spiffe://demo.org{name}");
        soon(async { while !ids(&next(&mut stream).await).contains(&path.as_str()) {} }).await;
        held.push(path);
    }
    agent.stop().await;
}
