//! Callers who show no SVID do their worst, from an address of their own, while others do their work.

use std::{net::Ipv4Addr, time::Duration};

use svidecar_api::spire::api::server::{
    bundle::v1::{CountBundlesRequest, GetBundleRequest, bundle_client::BundleClient},
    entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
};
use svidecar_authority::key::{KeyType, PrivateKey};
use tokio::{io::AsyncReadExt as _, time};
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::support::{Agent, TestServer, attest, connect};

/// Where they come from.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// No call of a victim takes so long; a handshake that waits for others would.
const PROMPT: Duration = Duration::from_secs(5);

/// Everybody else: an agent with a connection of before and a new one, a node that joins, an administrator.
async fn others_work(server: &TestServer, agent: &Agent, before: &Channel) {
    let work = async {
        for channel in [before.clone(), agent.channel(server).await] {
            let mut entries = EntryClient::new(channel);
            entries.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap();
        }
        let (token, pin) = server.token(None).await;
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        attest(server.anonymous(&pin).await, &token, &key).await.unwrap();
        BundleClient::new(server.local().await).count_bundles(CountBundlesRequest {}).await.unwrap();
    };
    assert!(time::timeout(PROMPT, work).await.is_ok(), "others wait for strangers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_nobody_from_a_handshake() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let before = agent.channel(&server).await;
    let mut silent = Vec::new();
    for round in 1..=4 {
        while silent.len() < round * 150 {
            silent.push(connect(STRANGER, server.address).await.unwrap());
        }
        others_work(&server, &agent, &before).await;
    }
    // The first of them made room.
    let gone = time::timeout(PROMPT, silent[0].read(&mut [0])).await.unwrap();
    assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_without_an_svid_are_few_and_make_room() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let before = agent.channel(&server).await;
    let config = server.anonymous_config(&agent.pin).await;
    let mut idle = Vec::new();
    for round in 1..=3 {
        while idle.len() < round * 200 {
            idle.push(server.idle_from(STRANGER, &config).await);
        }
        others_work(&server, &agent, &before).await;
    }
    let ended = time::timeout(PROMPT, async {
        // The server's settings of HTTP/2 come first.
        let mut end = [0; 1024];
        while !matches!(idle[0].read(&mut end).await, Ok(0) | Err(_)) {}
    });
    assert!(ended.await.is_ok(), "the first of them did not make room");
}

/// Calls GetBundle with a request of that size.
async fn get_bundle(channel: Channel, bytes: usize) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<Vec<u8>, ()> = ProstCodec::default();
    let path = "/spire.api.server.bundle.v1.Bundle/GetBundle".parse().unwrap();
    grpc.unary(Request::new(vec![0; bytes]), path, codec).await.map(|_| ())
}

/// So that many of them, unfinished, cannot take much.
#[tokio::test]
async fn what_anybody_may_send_is_small() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let workload = server.mint("spiffe://demo.org/shop").await;
    for channel in [server.anonymous(&agent.pin).await, server.with(&agent.pin, &workload).await] {
        let refused = get_bundle(channel.clone(), 1 << 20).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        BundleClient::new(channel).get_bundle(GetBundleRequest::default()).await.unwrap();
    }
}

/// Begins a call of GetBundle and never finishes its request.
async fn unfinished(channel: Channel) -> Status {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let path = "/spire.api.server.bundle.v1.Bundle/GetBundle".parse().unwrap();
    grpc.client_streaming(Request::new(tokio_stream::pending()), path, codec).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_calls_of_strangers_end_and_nobody_waits_for_them() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let before = agent.channel(&server).await;
    let mut calls = Vec::new();
    for _ in 0..12 {
        let channel = server.anonymous_from(STRANGER, &agent.pin).await;
        calls.extend((0..4).map(|_| tokio::spawn(unfinished(channel.clone()))));
    }
    others_work(&server, &agent, &before).await;
    for call in calls {
        let ended = call.await.unwrap();
        assert!(matches!(ended.code(), Code::Cancelled | Code::DeadlineExceeded), "{ended}");
    }
}

#[tokio::test]
async fn one_member_has_no_more_connections_than_it_needs() {
    let server = TestServer::start().await;
    let (greedy, victim) = (server.agent().await, server.agent().await);
    let before = victim.channel(&server).await;
    let mut held = Vec::new();
    let refused = loop {
        assert!(held.len() <= 16, "one member has ever more connections");
        let channel = greedy.channel(&server).await;
        let mut entries = EntryClient::new(channel);
        match entries.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await {
            Ok(_) => held.push(entries),
            Err(status) => break status,
        }
    };
    assert_eq!((held.len(), refused.code()), (16, Code::Unknown), "{refused}");
    others_work(&server, &victim, &before).await;
}
