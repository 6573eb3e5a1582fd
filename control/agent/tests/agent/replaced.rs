//! A server that was replaced, and who may say so.

use std::{path::PathBuf, sync::atomic::Ordering};

use svidecar_api::svidecar::agent::v1::GetStatusRequest;
use svidecar_authority::{bundle::Bundle, pem};
use svidecar_config::agent::AgentSettings;

use crate::{
    harness::{Agent, Bed, ids, my_uid, next, soon, write_token},
    server::{TOKEN, World, new_ca},
};

const NEW_TOKEN: &str = "99999999-2222-4333-8444-555555555555";

/// An agent that has joined, with its token in a file.
async fn joined() -> (Bed, AgentSettings, PathBuf, Agent) {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let file = bed.dir.path().join("token");
    write_token(&file, format!("{TOKEN}.{}", bed.world.pin()));
    let mut settings = bed.settings();
    settings.join_token = None;
    settings.join_token_file = Some(file.clone());
    let agent = bed.start(settings.clone());
    agent.ready().await;
    (bed, settings, file, agent)
}

/// The same, and then its server lost everything.
async fn bed() -> (Bed, AgentSettings, PathBuf, Agent) {
    let (mut bed, settings, file, agent) = joined().await;
    next(&mut agent.fetch().await.unwrap()).await;
    bed.stop_server().await;
    bed.world = World::with_token(true, NEW_TOKEN);
    bed.world.create_entry("f1", "/mine", &[&my_uid()]);
    bed.start_server();
    (bed, settings, file, agent)
}

/// What the agent says is wrong, once it says this.
async fn problem(agent: &Agent, wanted: &str) -> String {
    soon(async {
        loop {
            let status = agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
            if status.problem.contains(wanted) {
                return status.problem;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_new_pinned_token_is_the_operators_word_also_while_the_agent_runs() {
    let (bed, mut settings, file, agent) = bed().await;
    let mut stream = agent.fetch().await.unwrap();
    let before = next(&mut stream).await;
    let said = problem(&agent, "is the one that it joined the old server with").await;
    assert!(said.contains("remove data_dir"), "{said}");

    write_token(&file, format!("{NEW_TOKEN}.{}\n", bed.world.pin()));
    // The open stream gets the new SVID and the new bundle in one message, and never loses its identity between.
    let after = next(&mut stream).await;
    assert_eq!(ids(&after), ["spiffe://demo.org/mine"]);
    let root = bed.world.ca.lock().unwrap().certificate().clone();
    assert_eq!(Bundle::certificates_from_der(&after.svids[0].bundle).unwrap(), [root]);
    assert_ne!(before.svids[0].bundle, after.svids[0].bundle);
    let status = agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.agent_id, format!("spiffe://demo.org/spire/agent/join_token/{NEW_TOKEN}"));
    // What is registered there from now on comes as it is made.
    bed.world.create_entry("f2", "/more", &[&my_uid()]);
    assert_eq!(next(&mut stream).await.svids.len(), 2);
    agent.stop().await;

    // It is all on disk: the next start needs no token.
    settings.join_token_file = None;
    let agent = bed.start(settings);
    assert_eq!(next(&mut agent.fetch_when_ready().await).await.svids.len(), 2);
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), 1);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_starts_and_finds_its_server_replaced_joins_anew() {
    let (bed, settings, file, agent) = bed().await;
    agent.stop().await;
    write_token(&file, format!("{NEW_TOKEN}.{}", bed.world.pin()));
    let agent = bed.start(settings);
    let root = bed.world.ca.lock().unwrap().certificate().clone();
    let mut stream = agent.fetch_when_ready().await;
    soon(async {
        // At first it serves what it kept.
        while Bundle::certificates_from_der(&next(&mut stream).await.svids[0].bundle).unwrap()
            != [root.clone()]
        {}
    })
    .await;
    agent.stop().await;
}

/// The token is bound to the key of the first try; a restart goes on with that key.
#[tokio::test]
async fn a_lost_answer_costs_no_token() {
    let (bed, settings, file, agent) = bed().await;
    bed.world.lost_answers.store(usize::MAX, Ordering::Relaxed);
    write_token(&file, format!("{NEW_TOKEN}.{}", bed.world.pin()));
    problem(&agent, "the answer was lost").await;
    agent.stop().await;
    bed.world.lost_answers.store(0, Ordering::Relaxed);
    let agent = bed.start(settings.clone());
    agent.ready().await;
    soon(async {
        loop {
            let status = agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
            if status.agent_id.ends_with(NEW_TOKEN) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    agent.stop().await;
    assert!(!settings.data_dir.join("joining.json").exists());
}

/// A second start of a stack leaves a new token of the same server. Whoever answers in between must not make the agent
/// join its own server again: it would be another agent there, without the entries of the one that it is.
#[tokio::test]
async fn an_impostor_does_not_make_the_agent_join_its_own_server_again() {
    let (mut bed, _, file, agent) = joined().await;
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    bed.stop_server().await;
    write_token(&file, format!("{NEW_TOKEN}.{}", bed.world.pin()));
    // One handshake with somebody else; whatever follows reaches the server.
    bed.world.impostor.store(1, Ordering::Relaxed);
    bed.world.create_entry("e2", "/more", &[&my_uid()]);
    bed.start_server();
    assert_eq!(next(&mut stream).await.svids.len(), 2);
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), 1);
    let status = agent.admin().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.agent_id, format!("spiffe://demo.org/spire/agent/join_token/{TOKEN}"));

    bed.stop_server().await;
    bed.world.impostor.store(usize::MAX, Ordering::Relaxed);
    bed.start_server();
    let said = problem(&agent, "names the server that this agent knows already").await;
    assert!(said.contains("the join token"), "{said}");
    agent.stop().await;
}

/// What an operator wrote down goes before what came with the token, here as at the first contact.
#[tokio::test]
async fn a_trust_bundle_that_is_written_down_has_to_name_the_new_server() {
    let (mut bed, mut settings, file, agent) = bed().await;
    agent.stop().await;
    bed.stop_server().await;
    let path = bed.dir.path().join("bundle.pem");
    let write = |root: &_| std::fs::write(&path, pem::encode_certificates([root])).unwrap();
    write(new_ca("demo.org").certificate());
    settings.trust_bundle_path = Some(path.clone());
    write_token(&file, format!("{NEW_TOKEN}.{}", bed.world.pin()));
    bed.start_server();
    let agent = bed.start(settings);
    agent.ready().await;
    problem(&agent, "bundle.pem does not verify it").await;
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), 0);

    let root = bed.world.ca.lock().unwrap().certificate().clone();
    // A token without a pin is enough then.
    write_token(&file, NEW_TOKEN);
    write(&root);
    let mut stream = agent.fetch().await.unwrap();
    soon(async {
        while Bundle::certificates_from_der(&next(&mut stream).await.svids[0].bundle).unwrap()
            != [root.clone()]
        {}
    })
    .await;
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), 1);
    agent.stop().await;
}

/// Whoever can answer at the server's address cannot write a token's hash: nothing of the new token reaches them.
#[tokio::test]
async fn a_token_that_does_not_name_the_server_goes_nowhere() {
    let (bed, _, file, agent) = bed().await;
    let pin = bed.world.pin();
    for (token, said) in [
        (NEW_TOKEN.to_owned(), "carries no hash that names a server"),
        (
            format!("{NEW_TOKEN}.{}", "ab".repeat(32)),
            "its bootstrap key is another, and none of its 1 root certificates has the SHA-256",
        ),
        // The root is right, but the token is from the time of the old server.
        (format!("{TOKEN}.{pin}"), "is the one that it joined the old server with"),
        ("not a token".to_owned(), "is not of the form TOKEN"),
    ] {
        write_token(&file, token);
        problem(&agent, said).await;
    }
    std::fs::remove_file(&file).unwrap();
    problem(&agent, "cannot read").await;
    assert_eq!(bed.world.attestations.load(Ordering::Relaxed), 0);
    // What workloads have is left to them.
    assert_eq!(ids(&next(&mut agent.fetch().await.unwrap()).await), ["spiffe://demo.org/mine"]);
    agent.stop().await;
}
