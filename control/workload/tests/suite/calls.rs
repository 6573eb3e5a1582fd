//! Single calls.

use std::collections::HashMap;

use svidecar_api::transport::{ConnectError, Endpoint};
use svidecar_workload::{Client, ClientError, dial};
use tonic::Code;

use crate::{
    agent::{Agent, Says},
    soon,
    testing::{Issuer, message},
};

async fn agent() -> Agent {
    Agent::start(Says::Gives(message(vec![Issuer::new("demo.org").svid("/shop", "")]))).await
}

async fn client(agent: &Agent) -> Client {
    soon(Client::connect(&agent.endpoint())).await.unwrap()
}

#[tokio::test]
async fn identities_and_bundles_come_as_streams() {
    let agent = agent().await;
    let client = client(&agent).await;
    let mut svids = client.x509_svids().await.unwrap();
    let message = soon(svids.message()).await.unwrap().unwrap();
    assert_eq!(message.svids[0].spiffe_id, "spiffe://demo.org/shop");
    let mut bundles = client.x509_bundles().await.unwrap();
    let message = soon(bundles.message()).await.unwrap().unwrap();
    assert_eq!(message.bundles.keys().collect::<Vec<_>>(), ["spiffe://demo.org"]);
    agent.says(Says::Denied);
    assert_eq!(soon(svids.message()).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn tokens_are_fetched_and_validated() {
    let agent = agent().await;
    let client = client(&agent).await;
    let audience = vec!["orders".to_owned(), "stock".to_owned()];
    let svids = soon(client.fetch_jwt_svids(audience, Some("spiffe://demo.org/shop".into()))).await.unwrap();
    assert_eq!(svids.len(), 1);
    assert_eq!(
        (svids[0].spiffe_id.as_str(), svids[0].svid.as_str()),
        ("spiffe://demo.org/shop", "token for orders,stock")
    );
    let invalid = soon(client.validate_jwt_svid("orders".into(), "no token".into())).await.unwrap_err();
    assert!(matches!(&invalid, ClientError::Status(status) if status.code() == Code::InvalidArgument));
    assert_eq!(invalid.to_string(), "the Workload API answered InvalidArgument: the token is not valid");
}

/// H13: the first message is the whole state.
#[tokio::test]
async fn token_keys_are_those_of_now() {
    let agent = agent().await;
    let client = client(&agent).await;
    let refused = soon(client.fetch_jwt_bundles()).await.unwrap_err();
    assert!(matches!(refused, ClientError::Status(status) if status.code() == Code::Unavailable));
    let keys = HashMap::from([("spiffe://demo.org".to_owned(), b"{\"keys\":[]}".to_vec())]);
    agent.has_token_keys(keys.clone());
    assert_eq!(soon(client.fetch_jwt_bundles()).await.unwrap(), keys);
}

#[tokio::test]
async fn tcp_is_an_endpoint_too() {
    let agent = agent().await;
    let endpoint = Endpoint::Tcp(agent.on_tcp().await);
    let client = soon(Client::connect(&endpoint)).await.unwrap();
    let mut svids = client.x509_svids().await.unwrap();
    assert_eq!(soon(svids.message()).await.unwrap().unwrap().svids.len(), 1);
}

#[tokio::test]
async fn what_keeps_it_from_connecting_is_told_apart() {
    let mut agent = agent().await;
    agent.stop().await;
    let missing = soon(dial(&agent.endpoint())).await.unwrap_err();
    assert!(matches!(missing, ClientError::Connect(ConnectError::Missing { .. })), "{missing}");
    // A socket whose listener has gone.
    let Endpoint::Unix(path) = agent.endpoint() else { panic!() };
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let refused = soon(dial(&agent.endpoint())).await.unwrap_err();
    assert!(matches!(refused, ClientError::Connect(ConnectError::Refused { .. })), "{refused}");
}
