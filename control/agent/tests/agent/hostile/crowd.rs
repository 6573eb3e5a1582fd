//! One user who wants all of the agent, and another who wants an identity.

use std::process::Child;

use svidecar_api::svidecar::agent::v1::{GetStatusRequest, WhyRequest};

use crate::{
    harness::{Agent, Bed, ids, my_uid, next, soon},
    hostile::{
        as_mallory, everything_said, open_bed,
        roles::{first_word, role},
        root,
    },
};

/// Calls that each have to succeed while mallory does its worst.
const CALLS: usize = 20;

async fn bed_with_agent() -> (Bed, Agent) {
    let bed = open_bed();
    bed.world.create_entry("e1", "/rightful", &[&my_uid()]);
    let agent = bed.agent().await;
    (bed, agent)
}

async fn begun(mut child: Child) -> Child {
    soon(tokio::task::spawn_blocking(move || {
        assert_eq!(first_word(&mut child), "begun");
        child
    }))
    .await
    .unwrap()
}

/// The rightful user's calls, each on a connection of its own, and the operator's.
async fn all_is_well(agent: &Agent) {
    for _ in 0..CALLS {
        let mut stream = agent.fetch().await.unwrap();
        assert_eq!(ids(&next(&mut stream).await), ["spiffe://demo.org/rightful"]);
    }
    let mut admin = soon(agent.admin()).await;
    soon(admin.get_status(GetStatusRequest {})).await.unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    soon(admin.why(WhyRequest { pid })).await.unwrap();
}

/// 700 connections on which nothing is said: those that are over the places are closed, and nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_silent_connections_keeps_nobody_else_from_calling() {
    if !root("a_crowd_of_silent_connections_keeps_nobody_else_from_calling") {
        return;
    }
    let (bed, agent) = bed_with_agent().await;
    let socket = bed.settings().socket_path.display().to_string();
    let crowd = begun(as_mallory(role("crowd", &socket))).await;
    all_is_well(&agent).await;
    // It says nothing before.
    assert_eq!(everything_said(crowd).await, ["those over 256 were closed"]);
    all_is_well(&agent).await;
    agent.stop().await;
}

/// Messages that never come whole: those that are too large, and those that are too many, are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_messages_hold_little_and_nobody_else() {
    if !root("unfinished_messages_hold_little_and_nobody_else") {
        return;
    }
    let (bed, agent) = bed_with_agent().await;
    let socket = bed.settings().socket_path.display().to_string();
    let large = begun(as_mallory(role("large-messages", &socket))).await;
    all_is_well(&agent).await;
    assert_eq!(everything_said(large).await, ["64 of 64 were refused"]);
    let many = begun(as_mallory(role("many-messages", &socket))).await;
    all_is_well(&agent).await;
    assert_eq!(everything_said(many).await, ["the others were refused"]);
    agent.stop().await;
}
