//! First contact by the hash in a token, and the keys that it is the hash of.

use std::time::Duration;

use svidecar_api::{
    spire::api::server::{
        agent::v1::{CountAgentsRequest, agent_client::AgentClient},
        bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
    },
    status::{Reason, permission_denied_reason},
    svidecar::server::v1::{
        ListBootstrapKeysRequest, RevokeBootstrapKeyRequest, RotateBootstrapKeyRequest,
        bootstrap_keys_client::BootstrapKeysClient,
    },
};
use svidecar_authority::{
    CertificateDer,
    bundle::root_hash,
    key::{KeyType, PrivateKey},
    tls::{Identity, NoIdentity},
};
use tonic::Code;

use crate::support::{Credentials, TestServer, attest, attest_by};

const DAY: Duration = Duration::from_secs(86_400);

async fn roots(server: &TestServer) -> Vec<String> {
    let mut client = BundleClient::new(server.local().await);
    let bundle = client.get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
    let roots = bundle.x509_authorities.into_iter();
    roots.map(|root| root_hash(&CertificateDer::from(root.asn1))).collect()
}

async fn join(server: &TestServer, token: &str) -> bool {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let pin = token.rsplit_once('.').unwrap().1;
    match server.try_anonymous(pin).await {
        Ok(channel) => attest(channel, token, &key).await.is_ok(),
        Err(_) => false,
    }
}

/// A token of a month, in a trust domain whose authorities live for a day.
#[tokio::test]
async fn a_token_outlives_every_authority_of_its_time() {
    let mut server = TestServer::start_ago(30 * DAY, |_| {}).await;
    let token = server.long_token(31 * DAY).await;
    let before = roots(&server).await;
    server.pass(30 * DAY);
    server.restart().await;
    let after = roots(&server).await;
    assert!(before.iter().all(|root| !after.contains(root)), "no authority was replaced: no test");
    assert!(join(&server, &token).await);
}

/// As tokens were before there were bootstrap keys.
#[tokio::test]
async fn a_token_that_names_a_root_is_good_while_there_is_that_root() {
    let server = TestServer::start().await;
    let (token, _) = server.token(None).await;
    let bare = token.split_once('.').unwrap().0;
    let root = roots(&server).await.remove(0);
    assert!(join(&server, &format!("{bare}.{root}")).await);
}

#[tokio::test]
async fn tokens_of_each_key_are_good_until_that_key_is_revoked() {
    let mut server = TestServer::start().await;
    let (first, first_pin) = server.token(None).await;
    let (unused, _) = server.token(None).await;
    let mut keys = BootstrapKeysClient::new(server.local().await);
    let rotated = keys.rotate_bootstrap_key(RotateBootstrapKeyRequest {}).await.unwrap().into_inner();
    let (second, second_pin) = server.token(None).await;
    assert_eq!(rotated.key.unwrap().sha256, second_pin);
    assert_ne!(first_pin, second_pin);
    server.restart().await;
    assert!(join(&server, &first).await && join(&server, &second).await);

    let mut keys = BootstrapKeysClient::new(server.local().await);
    let listed = keys.list_bootstrap_keys(ListBootstrapKeysRequest {}).await.unwrap().into_inner().keys;
    let listed: Vec<_> = listed.iter().map(|key| (key.sha256.as_str(), key.current)).collect();
    assert_eq!(listed, [(first_pin.as_str(), false), (second_pin.as_str(), true)]);
    let newest = RevokeBootstrapKeyRequest { sha256: second_pin.clone() };
    assert_eq!(keys.revoke_bootstrap_key(newest).await.unwrap_err().code(), Code::FailedPrecondition);
    keys.revoke_bootstrap_key(RevokeBootstrapKeyRequest { sha256: first_pin }).await.unwrap();
    assert!(!join(&server, &unused).await);
    server.restart().await;
    assert!(!join(&server, &unused).await);
    let (third, _) = server.token(None).await;
    assert!(join(&server, &third).await);
}

/// The bootstrap key vouches for the server; it lets nobody in.
#[tokio::test]
async fn who_asks_for_the_bootstrap_key_is_nobody_there() {
    let server = TestServer::start_with(|settings| {
        settings.admin_ids = vec!["spiffe://demo.org/admin".parse().unwrap()];
    })
    .await;
    let (_, pin) = server.token(None).await;
    let admin = server.mint("spiffe://demo.org/admin").await;
    let count = async |channel| AgentClient::new(channel).count_agents(CountAgentsRequest::default()).await;
    assert!(count(server.with(&pin, &admin).await).await.is_ok());
    let refused = match server.by_key(admin.identity(), &pin).await {
        // TLS 1.3 tells the client only once it reads.
        Ok(channel) => count(channel).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    let nobody = count(server.by_key(NoIdentity, &pin).await.unwrap()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::PermissionDenied);
}

/// An agent's certificate of the bootstrap key.
fn shown(chain: &[Vec<u8>], key: &PrivateKey) -> Identity {
    Identity::new(vec![CertificateDer::from(chain[0].clone())], key.pkcs8_der()).unwrap()
}

#[tokio::test]
async fn what_lets_an_agent_come_back_is_no_svid() {
    let server = TestServer::start().await;
    let (token, pin) = server.token(None).await;
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let channel = server.anonymous(&pin).await;
    let (svid, membership) = attest_by(channel, "join_token", &token, &key).await.unwrap();
    let entries = async |channel| {
        EntryClient::new(channel).get_authorized_entries(GetAuthorizedEntriesRequest::default()).await
    };
    let agent = Credentials::new(&svid, key.clone());
    assert!(entries(server.with(&pin, &agent).await).await.is_ok());

    // Not where SVIDs count, and it is nobody's identity where it is known.
    let posing = Credentials { chain: vec![membership[0].clone()], ..agent };
    let refused = match server.try_with(&pin, &posing).await {
        Ok(channel) => entries(channel).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    let channel = server.by_key(shown(&membership, &key), &pin).await.unwrap();
    assert_eq!(entries(channel).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_agent_comes_back_by_its_key_and_nobody_by_less() {
    const MEMBERSHIP: &str = "svidecar_membership";
    let server = TestServer::start().await;
    let (token, pin) = server.token(None).await;
    let new_key = || PrivateKey::generate(KeyType::EcP256).unwrap();
    let key = new_key();
    let (svid, membership) =
        attest_by(server.anonymous(&pin).await, "join_token", &token, &key).await.unwrap();
    // The answer may be lost, so it may be asked for again.
    for _ in 0..2 {
        let (next_key, channel) = (new_key(), server.by_key(shown(&membership, &key), &pin).await.unwrap());
        let (back, next) = attest_by(channel, MEMBERSHIP, "1", &next_key).await.unwrap();
        assert_eq!(back.id, svid.id);
        assert_eq!(next.len(), 2);
    }
    for channel in [server.by_key(NoIdentity, &pin).await.unwrap(), server.anonymous(&pin).await] {
        let refused = attest_by(channel, MEMBERSHIP, "1", &new_key()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    }
    // One of a server that has the same name and another key.
    let other = TestServer::start().await;
    let (token, other_pin) = other.token(None).await;
    let (_, foreign) =
        attest_by(other.anonymous(&other_pin).await, "join_token", &token, &key).await.unwrap();
    let refused = match server.by_key(shown(&foreign, &key), &pin).await {
        Ok(channel) => attest_by(channel, MEMBERSHIP, "1", &new_key()).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    // The grace is over.
    server.pass(8 * DAY);
    let channel = server.by_key(shown(&membership, &key), &pin).await.unwrap();
    let refused = attest_by(channel, MEMBERSHIP, "1", &new_key()).await.unwrap_err();
    assert_eq!(permission_denied_reason(&refused), Some(Reason::AgentExpired));
}
