//! The Watch service: what an agent is pushed, in which order, and how its streams go on and end.

use std::time::Duration;

use svidecar_api::{
    spire::api::{
        server::{
            agent::v1::{BanAgentRequest, DeleteAgentRequest, agent_client::AgentClient},
            bundle::v1::{BatchSetFederatedBundleRequest, GetBundleRequest, bundle_client::BundleClient},
            entry::v1::{
                BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest,
                entry_client::EntryClient,
            },
        },
        types::{Bundle, Entry, EntryMask},
    },
    status::{Reason, permission_denied_reason},
    svidecar::server::v1::{WatchRequest, WatchResponse},
};
use svidecar_authority::{CertificateDer, x509::CertInfo};
use tonic::{Code, Streaming};

use crate::support::{Agent, TestServer, entry, id_field};

async fn watch(server: &TestServer, agent: &Agent, resume_token: &str) -> Streaming<WatchResponse> {
    let request = WatchRequest { resume_token: resume_token.to_owned() };
    agent.watch(server).await.watch(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    stream.message().await.unwrap().unwrap()
}

fn ids(response: &WatchResponse) -> Vec<&str> {
    response.entries.iter().map(|entry| entry.id.as_str()).collect()
}

async fn delete(server: &TestServer, id: &str) {
    let request = BatchDeleteEntryRequest { ids: vec![id.to_owned()] };
    EntryClient::new(server.local().await).batch_delete_entry(request).await.unwrap();
}

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_and_goes_on_with_differences() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let before = server.create_entry(entry("spiffe://demo.org/before", &agent.credentials.id, 1)).await;
    let mut stream = watch(&server, &agent, "").await;
    let snapshot = next(&mut stream).await;
    assert!(snapshot.snapshot && !snapshot.more && !snapshot.resume_token.is_empty());
    assert_eq!(ids(&snapshot), [before.id.as_str()]);
    assert_eq!(snapshot.bundles.len(), 1);
    assert_eq!(snapshot.bundles[0].trust_domain, "demo.org");

    let created = server.create_entry(entry("spiffe://demo.org/new", &agent.credentials.id, 2)).await;
    let pushed = next(&mut stream).await;
    assert_eq!((pushed.snapshot, ids(&pushed)), (false, vec![created.id.as_str()]));
    assert_eq!(pushed.entries[0], created);

    let changed = Entry { hint: "public".to_owned(), ..created.clone() };
    let mask = Some(EntryMask { hint: true, ..EntryMask::default() });
    let request = BatchUpdateEntryRequest { entries: vec![changed], input_mask: mask, output_mask: None };
    EntryClient::new(server.local().await).batch_update_entry(request).await.unwrap();
    let pushed = next(&mut stream).await;
    assert_eq!((pushed.entries[0].hint.as_str(), pushed.entries[0].revision_number), ("public", 1));

    delete(&server, &created.id).await;
    let pushed = next(&mut stream).await;
    assert_eq!(pushed.deleted_entry_ids, [created.id]);
    assert!(pushed.entries.is_empty());
}

#[tokio::test]
async fn an_agent_sees_its_own_entries_only() {
    let server = TestServer::start().await;
    let (ours, other) = (server.agent().await, server.agent().await);
    let mut stream = watch(&server, &ours, "").await;
    next(&mut stream).await;
    server.create_entry(entry("spiffe://demo.org/theirs", &other.credentials.id, 1)).await;
    let mine = server.create_entry(entry("spiffe://demo.org/mine", &ours.credentials.id, 1)).await;
    // The other's entry came first and was not pushed.
    assert_eq!(ids(&next(&mut stream).await), [mine.id]);
}

#[tokio::test]
async fn what_is_below_an_entry_comes_and_goes_with_it() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let below = server.create_entry(entry("spiffe://demo.org/below", "spiffe://demo.org/above", 1)).await;
    let mut stream = watch(&server, &agent, "").await;
    assert!(next(&mut stream).await.entries.is_empty());

    let above = server.create_entry(entry("spiffe://demo.org/above", &agent.credentials.id, 2)).await;
    let mut both = [above.id.clone(), below.id.clone()];
    both.sort();
    assert_eq!(ids(&next(&mut stream).await), both);
    delete(&server, &above.id).await;
    assert_eq!(next(&mut stream).await.deleted_entry_ids, both);
}

#[tokio::test]
async fn bundles_of_partners_come_with_the_entries_that_name_them() {
    let server = TestServer::start().await;
    let partner =
        TestServer::start_with(|settings| settings.trust_domain = "partner.org".parse().unwrap()).await;
    let theirs = BundleClient::new(partner.local().await).get_bundle(GetBundleRequest::default()).await;
    let theirs = theirs.unwrap().into_inner();
    let agent = server.agent().await;
    let mut stream = watch(&server, &agent, "").await;
    next(&mut stream).await;

    let set = |bundle: Bundle| BatchSetFederatedBundleRequest { bundle: vec![bundle], output_mask: None };
    let mut bundles = BundleClient::new(server.local().await);
    bundles.batch_set_federated_bundle(set(theirs.clone())).await.unwrap();
    let federated = Entry {
        federates_with: vec!["partner.org".to_owned()],
        ..entry("spiffe://demo.org/shop", &agent.credentials.id, 1)
    };
    let federated = server.create_entry(federated).await;
    // The bundle alone was no news for this agent; with the entry it is.
    let pushed = next(&mut stream).await;
    assert_eq!(ids(&pushed), [federated.id.as_str()]);
    assert_eq!(pushed.bundles, std::slice::from_ref(&theirs));

    let changed = Bundle { refresh_hint: 77, sequence_number: 99, ..theirs };
    bundles.batch_set_federated_bundle(set(changed.clone())).await.unwrap();
    assert_eq!(next(&mut stream).await.bundles, [changed]);
    delete(&server, &federated.id).await;
    let pushed = next(&mut stream).await;
    assert_eq!(
        (pushed.deleted_entry_ids, pushed.deleted_bundles),
        (vec![federated.id], vec!["partner.org".to_owned()])
    );
}

#[tokio::test]
async fn a_break_costs_only_what_changed_in_it() {
    let mut server = TestServer::start().await;
    let agent = server.agent().await;
    let kept = server.create_entry(entry("spiffe://demo.org/kept", &agent.credentials.id, 1)).await;
    let gone = server.create_entry(entry("spiffe://demo.org/gone", &agent.credentials.id, 2)).await;
    let mut stream = watch(&server, &agent, "").await;
    let token = next(&mut stream).await.resume_token;
    // The server has let go of the stream when it ends by itself, which it does when it stops.
    server.restart().await;
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);

    // Nothing has changed, and the server has forgotten everything: still nothing is sent twice.
    let mut stream = watch(&server, &agent, &token).await;
    let resumed = next(&mut stream).await;
    assert!(!resumed.snapshot && resumed.entries.is_empty() && resumed.bundles.is_empty());
    assert_eq!(resumed.resume_token, token);

    // What changed while nobody watched comes as a difference when the server remembers, else as a snapshot;
    // a token of another content never passes for the right one.
    drop(stream);
    let new = server.create_entry(entry("spiffe://demo.org/new", &agent.credentials.id, 3)).await;
    delete(&server, &gone.id).await;
    let pushed = next(&mut watch(&server, &agent, "1.0000000000000000").await).await;
    assert!(pushed.snapshot);
    let mut expected = [kept.id, new.id];
    expected.sort();
    assert_eq!(ids(&pushed), expected);
}

#[tokio::test]
async fn a_large_snapshot_comes_in_pieces_of_one_change_set() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let entries =
        (0..1100).map(|n| entry(&format!("spiffe://demo.org/w/{n}"), &agent.credentials.id, n)).collect();
    let request = BatchCreateEntryRequest { entries, output_mask: None };
    EntryClient::new(server.local().await).batch_create_entry(request).await.unwrap();
    let mut stream = watch(&server, &agent, "").await;
    let mut seen = 0;
    loop {
        let piece = next(&mut stream).await;
        assert!(piece.snapshot && piece.entries.len() <= 500);
        assert_eq!(piece.more, piece.resume_token.is_empty());
        seen += piece.entries.len();
        if !piece.more {
            break;
        }
    }
    assert_eq!(seen, 1100);
}

/// The next root is in the hands of every agent before anything is signed by it.
#[tokio::test]
async fn a_new_root_is_pushed_before_it_signs() {
    let server = TestServer::start_with(|settings| {
        settings.ca_ttl = "60s".parse().unwrap();
        settings.default_x509_svid_ttl = "10s".parse().unwrap();
        settings.default_jwt_svid_ttl = "10s".parse().unwrap();
    })
    .await;
    let agent = server.agent().await;
    let mut stream = watch(&server, &agent, "").await;
    let before = next(&mut stream).await.bundles.remove(0);
    server.pass(Duration::from_secs(31));
    let mut after = before.clone();
    // The root and the key for tokens may come in one step or in two.
    while after.x509_authorities.len() < 2 {
        after = next(&mut stream).await.bundles.remove(0);
    }
    assert!(after.sequence_number > before.sequence_number);
    assert_eq!(after.x509_authorities[0], before.x509_authorities[0]);
    let minted = server.mint("spiffe://demo.org/shop").await;
    let leaf = CertInfo::parse(&CertificateDer::from(minted.chain[0].as_slice())).unwrap();
    let root = CertInfo::parse(&CertificateDer::from(before.x509_authorities[0].asn1.as_slice())).unwrap();
    assert_eq!(leaf.authority_key_id, root.subject_key_id);
}

#[tokio::test]
async fn an_agent_has_few_streams() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let mut client = agent.watch(&server).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(client.watch(WatchRequest::default()).await.unwrap());
    }
    assert_eq!(client.watch(WatchRequest::default()).await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_stream_ends_with_its_agent() {
    let server = TestServer::start().await;
    let (banned, deleted, expired) = (server.agent().await, server.agent().await, server.agent().await);
    let mut admin = AgentClient::new(server.local().await);

    let mut stream = watch(&server, &banned, "").await;
    next(&mut stream).await;
    admin.ban_agent(BanAgentRequest { id: Some(id_field(&banned.credentials.id)) }).await.unwrap();
    let end = stream.message().await.unwrap_err();
    assert_eq!(permission_denied_reason(&end), Some(Reason::AgentBanned));

    let mut stream = watch(&server, &deleted, "").await;
    next(&mut stream).await;
    admin.delete_agent(DeleteAgentRequest { id: Some(id_field(&deleted.credentials.id)) }).await.unwrap();
    let end = stream.message().await.unwrap_err();
    assert_eq!(permission_denied_reason(&end), Some(Reason::AgentNotAttested));

    // An SVID with one second left; the stream knows when it ends.
    server.pass(Duration::from_secs(3598));
    let mut stream = watch(&server, &expired, "").await;
    next(&mut stream).await;
    let end = stream.message().await.unwrap_err();
    assert_eq!(permission_denied_reason(&end), Some(Reason::AgentExpired));
}
