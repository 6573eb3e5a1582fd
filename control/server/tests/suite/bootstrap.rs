//! First contact by the hash in a token, and the keys that it is the hash of.

use std::time::Duration;

use svidecar_api::{
    spire::api::server::{
        agent::v1::{CountAgentsRequest, agent_client::AgentClient},
        bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    },
    svidecar::server::v1::{
        ListBootstrapKeysRequest, RevokeBootstrapKeyRequest, RotateBootstrapKeyRequest,
        bootstrap_keys_client::BootstrapKeysClient,
    },
};
use svidecar_authority::{
    CertificateDer,
    bundle::root_hash,
    key::{KeyType, PrivateKey},
    tls::NoIdentity,
};
use tonic::Code;

use crate::support::{TestServer, attest};

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
