//! A server whose clock is wrong for a while: what it has, and whom it serves, is there when the clock is right again.

use std::time::Duration;

use svidecar_api::{
    spire::api::server::{
        entry::v1::{GetAuthorizedEntriesRequest, ListEntriesRequest, entry_client::EntryClient},
        svid::v1::{MintX509svidRequest, svid_client::SvidClient},
    },
    svidecar::server::v1::{
        AcceptClockRequest, GetClockRequest, ListJoinTokensRequest, clock_client::ClockClient,
        join_tokens_client::JoinTokensClient,
    },
};
use svidecar_authority::{
    csr,
    key::{KeyType, PrivateKey},
};
use svidecar_id::SpiffeId;
use svidecar_process::clock;
use tonic::Code;

use crate::support::{TestServer, attest, entry};

const AHEAD: i64 = 26 * 3600;

async fn entries(server: &TestServer) -> usize {
    let mut client = EntryClient::new(server.local().await);
    client.list_entries(ListEntriesRequest::default()).await.unwrap().into_inner().entries.len()
}

async fn tokens(server: &TestServer) -> usize {
    let mut client = JoinTokensClient::new(server.local().await);
    client.list_join_tokens(ListJoinTokensRequest {}).await.unwrap().into_inner().tokens.len()
}

/// A server with an agent, and an entry that ends in an hour.
async fn scene() -> (TestServer, crate::support::Agent) {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let ends = i64::try_from(clock::unix().as_secs()).unwrap() + 3600;
    let parent = agent.credentials.id.clone();
    server
        .create_entry(svidecar_api::spire::api::types::Entry {
            expires_at: ends,
            ..entry("spiffe://demo.org/a", &parent, 1)
        })
        .await;
    (server, agent)
}

/// The clock is 26 hours ahead for some seconds. The fleet, the unused token and the entry are as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_a_day_ahead_for_some_seconds_costs_nothing() {
    let (mut server, agent) = scene().await;
    let (unused, pin) = server.token(None).await;
    for restarts in [false, true] {
        server.hands.set(AHEAD);
        if restarts {
            server.restart().await;
        } else {
            // The CA has acted on it: it signs for whoever has that time, the server's own SVID too.
            while server.try_with(&pin, &agent.credentials).await.is_ok() {}
        }
        server.hands.set(-AHEAD);
        // The authority of before signs again when the jump back was seen.
        let mut client = loop {
            if server.try_with(&pin, &agent.credentials).await.is_ok() {
                break agent.entries(&server).await;
            }
        };
        let mine = client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap();
        assert_eq!(mine.into_inner().entries.len(), 1);
        assert_eq!((entries(&server).await, tokens(&server).await), (1, 2));
    }
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    attest(server.anonymous(&pin).await, &unused, &key).await.unwrap();
}

/// Who says that the clock is right has to have looked at it, and then what has ended goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_goes_when_the_time_is_accepted() {
    let (server, _agent) = scene().await;
    server.hands.set(AHEAD);
    let mut clock = ClockClient::new(server.local().await);
    let status = clock.get_clock(GetClockRequest {}).await.unwrap().into_inner();
    assert!(!status.believed && (status.now - status.expected - AHEAD).abs() <= 1, "{status:?}");
    let refused = clock.accept_clock(AcceptClockRequest { now: status.expected }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(entries(&server).await, 1);
    assert!(clock.accept_clock(AcceptClockRequest { now: status.now }).await.unwrap().into_inner().believed);
    while entries(&server).await > 0 {
        tokio::task::yield_now().await;
    }
}

/// The clock jumps back behind the beginning of the CA, and nobody tells: who cannot sign sees to it that somebody can. Looking now and
/// then would take as long as many thousands of tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_that_nobody_tells_of_is_seen_by_who_cannot_sign() {
    let (server, _agent) = scene().await;
    server.hands.slip(-AHEAD);
    let mut client = SvidClient::new(server.local().await);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let csr = csr::create(&key, Some(&SpiffeId::parse("spiffe://demo.org/minted").unwrap()), &[]).unwrap();
    let mut tries = 0;
    while client.mint_x509svid(MintX509svidRequest { csr: csr.clone(), ttl: 0 }).await.is_err() {
        tries += 1;
        assert!(tries < 2000, "nobody has looked at the clock");
    }
    assert!(tries > 0, "the CA had begun before");
}

/// A machine that was suspended has the right time when it wakes up: nobody is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_slept_goes_on_by_itself() {
    let (server, _agent) = scene().await;
    server.hands.sleep(Duration::from_secs(AHEAD.unsigned_abs()));
    let mut clock = ClockClient::new(server.local().await);
    assert!(clock.get_clock(GetClockRequest {}).await.unwrap().into_inner().believed);
    while entries(&server).await > 0 {
        tokio::task::yield_now().await;
    }
}
