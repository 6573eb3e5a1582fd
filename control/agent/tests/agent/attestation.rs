//! The first contact with the server.

use std::sync::atomic::Ordering;

use svidecar_agent::error::AgentError;
use svidecar_api::{
    svidecar::agent::v1::{GetStatusRequest, WhyRequest},
    workload::X509svidRequest,
};
use svidecar_authority::pem;
use svidecar_id::TrustDomain;
use tonic::Code;

use crate::{
    harness::{Bed, my_uid, next, request, secret, soon, write_token},
    server::{TOKEN, World, new_ca},
};

#[tokio::test]
async fn a_token_pins_the_server_by_its_root() {
    let bed = Bed::new(true);
    let agent = bed.agent().await;
    let status = agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.agent_id, format!("spiffe://demo.org/spire/agent/join_token/{TOKEN}"));
    assert!(!status.insecure_bootstrap);
    agent.stop().await;
}

#[tokio::test]
async fn another_server_never_sees_the_token() {
    let bed = Bed::new(true);
    let mut settings = bed.settings();
    settings.join_token = Some(secret(&format!("{TOKEN}.{}", "ab".repeat(32))));
    let error = bed.start(settings).ended().await;
    assert!(matches!(error, AgentError::PinMismatch { .. }), "{error}");
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_bundle_file_names_the_server() {
    let bed = Bed::new(true);
    let path = bed.dir.path().join("bundle.pem");
    let root = bed.world.ca.lock().unwrap().certificate().clone();
    std::fs::write(&path, pem::encode_certificates([&root])).unwrap();
    let mut settings = bed.settings();
    settings.join_token = Some(secret(TOKEN));
    settings.trust_bundle_path = Some(path.clone());
    let agent = bed.start(settings.clone());
    agent.ready().await;
    agent.stop().await;

    // With another root in the file the server is not believed, and the token is not sent.
    let foreign = new_ca("demo.org").certificate().clone();
    std::fs::write(&path, pem::encode_certificates([&foreign])).unwrap();
    settings.data_dir = bed.dir.path().join("other");
    let before = bed.world.attestations.load(Ordering::Relaxed);
    let agent = bed.start(settings);
    let mut client = agent.client().await;
    let refused = loop {
        let refused = client.fetch_x509svid(request(X509svidRequest {})).await.unwrap_err();
        if !refused.message().contains("not attested yet") {
            break refused;
        }
        tokio::task::yield_now().await;
    };
    // H7: not ready is Unavailable, with the reason.
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("cannot reach the server"), "{}", refused.message());
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), before);
    agent.stop().await;
}

#[tokio::test]
async fn insecure_bootstrap_works_and_is_told() {
    let bed = Bed::new(true);
    let mut settings = bed.settings();
    settings.join_token = Some(secret(TOKEN));
    let error = bed.start(settings.clone()).ended().await;
    assert!(matches!(error, AgentError::NoBootstrap), "{error}");
    settings.insecure_bootstrap = true;
    let agent = bed.start(settings);
    agent.ready().await;
    let status = agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.insecure_bootstrap);
    agent.stop().await;
}

#[tokio::test]
async fn a_token_that_another_key_used_ends_the_agent_with_the_servers_words() {
    let bed = Bed::new(true);
    bed.agent().await.stop().await;
    let mut settings = bed.settings();
    settings.data_dir = bed.dir.path().join("other");
    let error = bed.start(settings).ended().await;
    assert!(matches!(error, AgentError::TokenRefused(_)), "{error}");
    assert!(error.to_string().contains("has already been used"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_trust_domain_is_named_with_the_settings_to_correct() {
    let bed = Bed::new(true);
    let mut settings = bed.settings();
    settings.trust_domain = TrustDomain::parse("other.org").unwrap();
    let agent = bed.start(settings);
    let refused = loop {
        let refused = agent.fetch().await.unwrap_err();
        if refused.message().contains("spiffe://demo.org/spire/server") {
            break refused;
        }
        tokio::task::yield_now().await;
    };
    assert!(refused.message().contains("correct trust_domain or server_address"), "{}", refused.message());
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_starts_before_its_server_waits_and_says_so() {
    let mut bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    bed.stop_server().await;
    let agent = bed.start(bed.settings());
    let refused = agent.fetch().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    bed.start_server();
    agent.ready().await;
    next(&mut agent.fetch().await.unwrap()).await;
    agent.stop().await;
}

/// Whoever runs `bootstrap` again while the agent waits has its first token deleted.
#[tokio::test]
async fn an_agent_that_waits_joins_by_the_token_of_the_moment() {
    const NEWER: &str = "99999999-2222-4333-8444-555555555555";
    let mut bed = Bed::new(true);
    bed.world = World::with_token(true, NEWER);
    let file = bed.dir.path().join("token");
    write_token(&file, format!("{TOKEN}.{}", bed.world.pin()));
    let mut settings = bed.settings();
    settings.join_token = None;
    settings.join_token_file = Some(file.clone());
    bed.stop_server().await;
    let agent = bed.start(settings);
    // It has tried, and waits.
    soon(async {
        while !agent.fetch().await.unwrap_err().message().contains("cannot reach the server") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    write_token(&file, format!("{NEWER}.{}", bed.world.pin()));
    bed.start_server();
    agent.ready().await;
    let status = agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.agent_id, format!("spiffe://demo.org/spire/agent/join_token/{NEWER}"));
    agent.stop().await;
}

#[tokio::test]
async fn why_says_what_a_process_lacks() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    bed.world.create_entry("e2", "/almost", &[&my_uid(), "unix:path:/nowhere"]);
    let agent = bed.agent().await;
    next(&mut agent.fetch().await.unwrap()).await;
    let pid = i32::try_from(std::process::id()).unwrap();
    let answer = soon(agent.admin().await.why(WhyRequest { pid })).await.unwrap().into_inner();
    assert_eq!(answer.matched[0].spiffe_id, "spiffe://demo.org/mine");
    assert_eq!(answer.closest[0].missing[0].value, "path:/nowhere");
    assert_eq!(answer.total_entries, 2);
    let gone = soon(agent.admin().await.why(WhyRequest { pid: i32::MAX })).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    agent.stop().await;
}
