//! Entries, SVIDs and bundles as SPIRE's agents and administrators use them.

use std::time::Duration;

use svidecar_api::spire::api::{
    server::{
        agent::v1::{DeleteAgentRequest, agent_client::AgentClient},
        bundle::v1::{
            AppendBundleRequest, BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest,
            BatchUpdateFederatedBundleRequest, CountBundlesRequest, GetBundleRequest,
            GetFederatedBundleRequest, ListFederatedBundlesRequest, PublishJwtAuthorityRequest,
            batch_delete_federated_bundle_request::Mode, bundle_client::BundleClient,
        },
        entry::v1::{
            BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, CountEntriesRequest,
            GetAuthorizedEntriesRequest, GetEntryRequest, ListEntriesRequest, SyncAuthorizedEntriesRequest,
            entry_client::EntryClient, list_entries_request,
        },
        svid::v1::{
            BatchNewX509svidRequest, MintJwtsvidRequest, MintX509svidRequest, NewJwtsvidRequest,
            NewX509svidParams, svid_client::SvidClient,
        },
    },
    types::{self, Bundle, BundleMask, Entry, EntryMask, SelectorMatch, Status, X509Certificate},
};
use svidecar_authority::{
    CertificateDer, UnixTime,
    bundle::{Bundle as TrustBundle, BundleSet, JwtKey},
    csr, jwt,
    key::{KeyType, PrivateKey},
    x509::{CertInfo, verify_peer},
};
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::clock;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

use crate::support::{TestServer, entry, id_field};

fn now() -> UnixTime {
    clock::unix()
}

/// What verifies the server's SVIDs, fetched as anybody may.
async fn trusted(channel: Channel) -> BundleSet {
    let bundle =
        BundleClient::new(channel).get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
    let mut trusted = TrustBundle::empty(TrustDomain::parse(&bundle.trust_domain).unwrap());
    trusted.x509_authorities =
        bundle.x509_authorities.into_iter().map(|authority| CertificateDer::from(authority.asn1)).collect();
    trusted.jwt_authorities = bundle
        .jwt_authorities
        .into_iter()
        .map(|key| JwtKey { kid: key.key_id, spki_der: key.public_key, expires_at: None })
        .collect();
    BundleSet::of(trusted)
}

fn code(status: &Option<Status>) -> Code {
    Code::from(status.as_ref().unwrap().code)
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item_in_its_order() {
    let server = TestServer::start().await;
    let mut client = EntryClient::new(server.local().await);
    let good = entry("spiffe://demo.org/shop", "spiffe://demo.org/node", 1);
    let reserved = entry("spiffe://demo.org/spire/server", "spiffe://demo.org/node", 1);
    let request = BatchCreateEntryRequest { entries: vec![reserved, good.clone(), good], output_mask: None };
    let results = client.batch_create_entry(request).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| code(&result.status)).collect();
    assert_eq!(codes, [Code::InvalidArgument, Code::Ok, Code::AlreadyExists]);
    assert_eq!(results[2].status.as_ref().unwrap().message, "similar entry already exists");
    assert_eq!(results[1].entry, results[2].entry);
    let created = results[1].entry.clone().unwrap();

    let mask = EntryMask { hint: true, ..EntryMask::default() };
    let change = |id: &str| Entry { id: id.to_owned(), hint: "x".to_owned(), ..Entry::default() };
    let request = BatchUpdateEntryRequest {
        entries: vec![change("nosuch"), change(&created.id)],
        input_mask: Some(mask),
        output_mask: Some(mask),
    };
    let results = client.batch_update_entry(request).await.unwrap().into_inner().results;
    assert_eq!(code(&results[0].status), Code::NotFound);
    let expected = Entry { id: created.id.clone(), hint: "x".to_owned(), ..Entry::default() };
    assert_eq!(results[1].entry, Some(expected));

    let ids = vec![String::new(), created.id.clone(), created.id];
    let results =
        client.batch_delete_entry(BatchDeleteEntryRequest { ids }).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| code(&result.status)).collect();
    assert_eq!(codes, [Code::InvalidArgument, Code::Ok, Code::NotFound]);
}

#[tokio::test]
async fn entries_are_found_counted_and_paged() {
    let server = TestServer::start().await;
    let mut client = EntryClient::new(server.local().await);
    for n in 0..5 {
        server.create_entry(entry(&format!("spiffe://demo.org/w/{n}"), "spiffe://demo.org/node", n)).await;
    }
    assert_eq!(client.count_entries(CountEntriesRequest::default()).await.unwrap().into_inner().count, 5);
    let filter = list_entries_request::Filter {
        by_selectors: Some(SelectorMatch {
            selectors: entry("spiffe://demo.org/x", "spiffe://demo.org/y", 3).selectors,
            r#match: 0,
        }),
        ..Default::default()
    };
    let found = client.list_entries(ListEntriesRequest { filter: Some(filter), ..Default::default() }).await;
    let found = found.unwrap().into_inner().entries;
    assert_eq!(found.len(), 1);
    let whole = client.get_entry(GetEntryRequest { id: found[0].id.clone(), output_mask: None }).await;
    assert_eq!(whole.unwrap().into_inner(), found[0]);

    let (mut token, mut sizes) = (String::new(), Vec::new());
    loop {
        let request = ListEntriesRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = client.list_entries(request).await.unwrap().into_inner();
        sizes.push(page.entries.len());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    let empty =
        list_entries_request::Filter { by_selectors: Some(SelectorMatch::default()), ..Default::default() };
    let refused = client.list_entries(ListEntriesRequest { filter: Some(empty), ..Default::default() }).await;
    assert_eq!(refused.unwrap_err().message(), "malformed selectors filter: empty selector set");
}

#[tokio::test]
async fn an_agent_syncs_small_sets_whole_and_large_ones_by_revision() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let sync = async |requests: Vec<SyncAuthorizedEntriesRequest>| {
        let requests = tokio_stream::iter(requests);
        let mut answers = agent.entries(&server).await.sync_authorized_entries(requests).await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            all.push(answer);
        }
        Ok::<_, tonic::Status>(all)
    };
    server.create_entry(entry("spiffe://demo.org/one", &agent.credentials.id, 0)).await;
    let small = sync(vec![SyncAuthorizedEntriesRequest::default()]).await.unwrap();
    assert_eq!((small.len(), small[0].entries.len(), small[0].entry_revisions.len()), (1, 1, 0));

    let entries =
        (0..600).map(|n| entry(&format!("spiffe://demo.org/w/{n}"), &agent.credentials.id, n)).collect();
    let request = BatchCreateEntryRequest { entries, output_mask: None };
    EntryClient::new(server.local().await).batch_create_entry(request).await.unwrap();
    let sparse = sync(vec![SyncAuthorizedEntriesRequest::default()]).await.unwrap();
    let shape: Vec<_> = sparse.iter().map(|page| (page.entry_revisions.len(), page.more)).collect();
    assert_eq!(shape, [(500, true), (101, false)]);
    let mut ids: Vec<String> =
        sparse.iter().flat_map(|page| &page.entry_revisions).map(|revision| revision.id.clone()).collect();
    ids.push("not-ours".to_owned());
    let asked = SyncAuthorizedEntriesRequest { output_mask: None, ids: ids.clone() };
    let whole = sync(vec![SyncAuthorizedEntriesRequest::default(), asked]).await.unwrap();
    let shape: Vec<_> = whole[2..].iter().map(|page| (page.entries.len(), page.more)).collect();
    assert_eq!(shape, [(500, true), (101, false)]);

    let with_ids = SyncAuthorizedEntriesRequest { output_mask: None, ids };
    assert_eq!(sync(vec![with_ids]).await.unwrap_err().code(), Code::InvalidArgument);
    let masked = SyncAuthorizedEntriesRequest { output_mask: Some(EntryMask::default()), ids: vec![] };
    assert_eq!(sync(vec![masked]).await.unwrap_err().message(), "revision number cannot be masked");
}

#[tokio::test]
async fn a_sync_goes_on_as_long_as_the_agent_asks() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let entries =
        (0..501).map(|n| entry(&format!("spiffe://demo.org/w/{n}"), &agent.credentials.id, n)).collect();
    let request = BatchCreateEntryRequest { entries, output_mask: None };
    EntryClient::new(server.local().await).batch_create_entry(request).await.unwrap();
    let (ask, requests) = tokio::sync::mpsc::channel(1);
    ask.send(SyncAuthorizedEntriesRequest::default()).await.unwrap();
    let mut client = agent.entries(&server).await;
    let mut answers =
        client.sync_authorized_entries(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    answers.message().await.unwrap().unwrap();
    for revision in first.entry_revisions.iter().take(3) {
        let request = SyncAuthorizedEntriesRequest { output_mask: None, ids: vec![revision.id.clone()] };
        ask.send(request).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.entries[0].id.as_str(), answer.more), (revision.id.as_str(), false));
    }
    drop(ask);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn an_agent_gets_svids_for_its_entries_and_no_others() {
    let server = TestServer::start().await;
    let (agent, other) = (server.agent().await, server.agent().await);
    let ours = Entry {
        x509_svid_ttl: 600,
        dns_names: vec!["shop.demo.org".to_owned()],
        hint: "public".to_owned(),
        ..entry("spiffe://demo.org/shop", &agent.credentials.id, 1)
    };
    let ours = server.create_entry(ours).await;
    let theirs = server.create_entry(entry("spiffe://demo.org/other", &other.credentials.id, 1)).await;
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    // What the request asks for is not what counts; the entry is.
    let wish = SpiffeId::parse("spiffe://demo.org/spire/server").unwrap();
    let csr = csr::create(&key, Some(&wish), &[]).unwrap();
    let params =
        |entry_id: &str, csr: &[u8]| NewX509svidParams { entry_id: entry_id.to_owned(), csr: csr.to_vec() };
    let params =
        vec![params(&ours.id, &csr), params(&theirs.id, &csr), params(&ours.id, b"junk"), params("", &csr)];
    let mut client = agent.svids(&server).await;
    let results =
        client.batch_new_x509svid(BatchNewX509svidRequest { params }).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| code(&result.status)).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::InvalidArgument, Code::InvalidArgument]);

    let svid = results[0].svid.clone().unwrap();
    assert_eq!(svid.hint, "public");
    let chain: Vec<_> = svid.cert_chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let peer = verify_peer(&chain, &trusted(server.anonymous(&agent.pin).await).await, now()).unwrap();
    assert_eq!(peer.id.as_str(), "spiffe://demo.org/shop");
    assert_eq!(peer.dns_names, ["shop.demo.org"]);
    assert_eq!(peer.not_after.as_secs() - peer.not_before.as_secs(), 610);

    let too_many = vec![NewX509svidParams::default(); 501];
    let refused = client.batch_new_x509svid(BatchNewX509svidRequest { params: too_many }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn tokens_are_signed_for_entries_and_for_administrators() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let ours = Entry { jwt_svid_ttl: 60, ..entry("spiffe://demo.org/shop", &agent.credentials.id, 1) };
    let ours = server.create_entry(ours).await;
    let mut client = agent.svids(&server).await;
    let request = |audience: Vec<String>| NewJwtsvidRequest { entry_id: ours.id.clone(), audience };
    let svid = client.new_jwtsvid(request(vec!["api".to_owned()])).await.unwrap().into_inner().svid.unwrap();
    assert_eq!(svid.expires_at - svid.issued_at, 60);
    let bundles = trusted(server.anonymous(&agent.pin).await).await;
    let validated = jwt::validate(&svid.token, &["api"], &bundles, now()).unwrap();
    assert_eq!(validated.id.as_str(), "spiffe://demo.org/shop");
    assert_eq!(
        client.new_jwtsvid(request(vec![])).await.unwrap_err().message(),
        "at least one audience is required"
    );

    let request = MintJwtsvidRequest {
        id: Some(id_field("spiffe://demo.org/minted")),
        audience: vec!["a".to_owned(), "b".to_owned()],
        ttl: 0,
    };
    let minted = SvidClient::new(server.local().await).mint_jwtsvid(request).await.unwrap().into_inner();
    assert!(jwt::validate(&minted.svid.unwrap().token, &["b"], &bundles, now()).is_ok());
}

#[tokio::test]
async fn what_is_minted_is_checked_first() {
    let server = TestServer::start().await;
    let mut client = SvidClient::new(server.local().await);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let csr = |id: Option<&str>| {
        let id = id.map(|id| SpiffeId::parse(id).unwrap());
        csr::create(&key, id.as_ref(), &["shop.demo.org".to_owned()]).unwrap()
    };
    for (request, message) in [
        (Vec::new(), "missing CSR"),
        (csr(None), "CSR URI SAN is required"),
        (csr(Some("spiffe://other.org/shop")), "CSR URI SAN is invalid: "),
        (csr(Some("spiffe://demo.org/spire/server")), "CSR URI SAN is invalid: "),
        (csr(Some("spiffe://demo.org")), "CSR URI SAN is invalid: "),
    ] {
        let refused = client.mint_x509svid(MintX509svidRequest { csr: request, ttl: 0 }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(message), "{refused}");
    }
    let request = MintX509svidRequest { csr: csr(Some("spiffe://demo.org/shop")), ttl: 120 };
    let minted = client.mint_x509svid(request).await.unwrap().into_inner().svid.unwrap();
    let info = CertInfo::parse(&CertificateDer::from(minted.cert_chain[0].as_slice())).unwrap();
    assert_eq!(info.dns_names, ["shop.demo.org"]);
    assert_eq!(info.subject, "CN=shop.demo.org,O=SPIRE,C=US");
}

#[tokio::test]
async fn federated_bundles_are_kept_apart_from_our_own() {
    let server = TestServer::start().await;
    let partner =
        TestServer::start_with(|settings| settings.trust_domain = "partner.org".parse().unwrap()).await;
    let theirs = BundleClient::new(partner.local().await).get_bundle(GetBundleRequest::default()).await;
    let theirs = theirs.unwrap().into_inner();
    let mut client = BundleClient::new(server.local().await);
    let ours = client.get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
    let set = |bundle: Bundle| BatchSetFederatedBundleRequest { bundle: vec![bundle], output_mask: None };

    let refused = client.batch_set_federated_bundle(set(ours)).await.unwrap().into_inner().results;
    assert_eq!(code(&refused[0].status), Code::InvalidArgument);
    let junk = Bundle { x509_authorities: vec![X509Certificate::default()], ..theirs.clone() };
    let refused = client.batch_set_federated_bundle(set(junk)).await.unwrap().into_inner().results;
    assert_eq!(code(&refused[0].status), Code::InvalidArgument);
    client.batch_set_federated_bundle(set(theirs.clone())).await.unwrap();
    assert_eq!(client.count_bundles(CountBundlesRequest {}).await.unwrap().into_inner().count, 2);
    let listed = client.list_federated_bundles(ListFederatedBundlesRequest::default()).await;
    assert_eq!(listed.unwrap().into_inner().bundles, std::slice::from_ref(&theirs));

    let hint =
        Bundle { refresh_hint: 60, ..Bundle { trust_domain: "partner.org".to_owned(), ..Bundle::default() } };
    let request = BatchUpdateFederatedBundleRequest {
        bundle: vec![hint],
        input_mask: Some(BundleMask { refresh_hint: true, ..BundleMask::default() }),
        output_mask: None,
    };
    client.batch_update_federated_bundle(request).await.unwrap();
    let agent = server.agent().await;
    let request = GetFederatedBundleRequest { trust_domain: "partner.org".to_owned(), output_mask: None };
    let fetched = agent.bundles(&server).await.get_federated_bundle(request).await.unwrap().into_inner();
    assert_eq!((fetched.refresh_hint, &fetched.x509_authorities), (60, &theirs.x509_authorities));

    let federated = Entry {
        federates_with: vec!["partner.org".to_owned()],
        ..entry("spiffe://demo.org/shop", "spiffe://demo.org/node", 1)
    };
    server.create_entry(federated).await;
    let mut delete = async |mode: Mode| {
        let request = BatchDeleteFederatedBundleRequest {
            trust_domains: vec!["partner.org".to_owned()],
            mode: mode.into(),
        };
        code(&client.batch_delete_federated_bundle(request).await.unwrap().into_inner().results[0].status)
    };
    assert_eq!(delete(Mode::Restrict).await, Code::FailedPrecondition);
    assert_eq!(delete(Mode::Dissociate).await, Code::Ok);
    assert_eq!(delete(Mode::Dissociate).await, Code::NotFound);
}

#[tokio::test]
async fn appended_authorities_are_trusted_too() {
    let server = TestServer::start().await;
    let other = TestServer::start().await;
    let mut client = BundleClient::new(server.local().await);
    let theirs = BundleClient::new(other.local().await).get_bundle(GetBundleRequest::default()).await;
    let theirs = theirs.unwrap().into_inner();
    let before = client.get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
    let request = AppendBundleRequest { x509_authorities: theirs.x509_authorities, ..Default::default() };
    let after = client.append_bundle(request).await.unwrap().into_inner();
    assert_eq!(after.x509_authorities.len(), before.x509_authorities.len() + 1);
    assert!(after.sequence_number > before.sequence_number);

    // An administrator's SVID of that authority is accepted from then on.
    let operator = other.mint("spiffe://demo.org/operator").await;
    let (_, pin) = server.token(None).await;
    server
        .create_entry(Entry {
            admin: true,
            ..entry("spiffe://demo.org/operator", "spiffe://demo.org/node", 0)
        })
        .await;
    let mut remote = EntryClient::new(server.with(&pin, &operator).await);
    assert_eq!(remote.count_entries(CountEntriesRequest::default()).await.unwrap().into_inner().count, 1);
}

#[tokio::test]
async fn a_restart_keeps_agents_and_entries() {
    let mut server = TestServer::start().await;
    let agent = server.agent().await;
    server.create_entry(entry("spiffe://demo.org/shop", &agent.credentials.id, 1)).await;
    server.restart().await;
    let mut client = agent.entries(&server).await;
    let entries = client
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .entries;
    assert_eq!(entries.len(), 1);
    // The agent's alias and record go when it is deleted.
    let request = DeleteAgentRequest { id: Some(id_field(&agent.credentials.id)) };
    AgentClient::new(server.local().await).delete_agent(request).await.unwrap();
}

#[tokio::test]
async fn an_entry_that_has_ended_is_taken_from_its_agent() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let ends = i64::try_from(now().as_secs()).unwrap() + 60;
    let short = Entry { expires_at: ends, ..entry("spiffe://demo.org/short", &agent.credentials.id, 1) };
    let short = server.create_entry(short).await;
    server.pass(Duration::from_secs(120));
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let params = NewX509svidParams { entry_id: short.id, csr: csr::create(&key, None, &[]).unwrap() };
    let request = BatchNewX509svidRequest { params: vec![params] };
    let results = agent.svids(&server).await.batch_new_x509svid(request).await.unwrap().into_inner().results;
    assert_eq!(code(&results[0].status), Code::NotFound);
}

/// Whoever an entry gave rights has none from its last second on, whenever it is pruned; its neighbour notices nothing.
#[tokio::test]
async fn an_entry_that_has_ended_gives_no_rights() {
    let server = TestServer::start().await;
    let agent = server.agent().await;
    let ends = i64::try_from(now().as_secs()).unwrap() + 60;
    let node = "spiffe://demo.org/node";
    for (id, expires_at) in [("spiffe://demo.org/short", ends), ("spiffe://demo.org/long", 0)] {
        server.create_entry(Entry { admin: true, expires_at, ..entry(id, node, 0) }).await;
    }
    let group = Entry { expires_at: ends, ..entry("spiffe://demo.org/group", &agent.credentials.id, 1) };
    server.create_entry(group).await;
    let child = server.create_entry(entry("spiffe://demo.org/child", "spiffe://demo.org/group", 1)).await;
    let mut admins = Vec::new();
    for id in ["spiffe://demo.org/short", "spiffe://demo.org/long"] {
        let identity = server.mint(id).await;
        admins.push(EntryClient::new(server.with(&agent.pin, &identity).await));
    }
    let mut entries = agent.entries(&server).await;
    for admin in &mut admins {
        admin.count_entries(CountEntriesRequest::default()).await.unwrap();
    }
    let authorized = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap();
    assert_eq!(authorized.into_inner().entries.len(), 2);

    server.pass(Duration::from_secs(60));
    let refused = admins[0].count_entries(CountEntriesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // It is still there, so nobody has pruned it.
    let count = admins[1].count_entries(CountEntriesRequest::default()).await.unwrap().into_inner().count;
    assert_eq!(count, 4);
    let authorized = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap();
    assert!(authorized.into_inner().entries.is_empty());
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let params = NewX509svidParams { entry_id: child.id, csr: csr::create(&key, None, &[]).unwrap() };
    let request = BatchNewX509svidRequest { params: vec![params] };
    let results = agent.svids(&server).await.batch_new_x509svid(request).await.unwrap().into_inner().results;
    assert_eq!(code(&results[0].status), Code::NotFound);
}

#[tokio::test]
async fn published_token_keys_are_few_and_small() {
    let server = TestServer::start().await;
    let (_, pin) = server.token(None).await;
    let lower = entry("spiffe://demo.org/lower", "spiffe://demo.org/node", 0);
    server.create_entry(Entry { downstream: true, ..lower }).await;
    let public_key = PrivateKey::generate(KeyType::EcP256).unwrap().spki_der();
    let key = |key_id: &str| types::JwtKey {
        public_key: public_key.clone(),
        key_id: key_id.to_owned(),
        ..types::JwtKey::default()
    };
    let identity = server.mint("spiffe://demo.org/lower").await;
    let mut client = BundleClient::new(server.with(&pin, &identity).await);
    let mut publish = async |key| {
        let request = PublishJwtAuthorityRequest { jwt_authority: Some(key) };
        client.publish_jwt_authority(request).await.map(|answer| answer.into_inner().jwt_authorities.len())
    };
    let there = publish(key("first")).await.unwrap();
    let more = (there..127).map(|number| key(&number.to_string())).collect();
    let append = AppendBundleRequest { jwt_authorities: more, ..AppendBundleRequest::default() };
    BundleClient::new(server.local().await).append_bundle(append).await.unwrap();
    assert_eq!(publish(key("last")).await.unwrap(), 128);
    assert_eq!(publish(key("too-many")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(publish(key("last")).await.unwrap(), 128);
    for wrong in [
        key(&"x".repeat(256)),
        types::JwtKey { public_key: vec![0; 4096], ..key("large") },
        types::JwtKey { expires_at: 1, ..key("expired") },
    ] {
        assert_eq!(publish(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
