//! A key of an authority that others may know.

use std::time::Duration;

use svidecar_api::spire::api::server::localauthority::v1::{
    GetX509AuthorityStateRequest, GetX509AuthorityStateResponse, local_authority_client::LocalAuthorityClient,
};
use svidecar_authority::x509::CertInfo;
use svidecar_fleet::{Agent, Domain};

const DAY: Duration = Duration::from_secs(86_400);
const SHOP: &str = "spiffe://demo.org/shop";

async fn authorities(domain: &Domain) -> GetX509AuthorityStateResponse {
    let mut client = LocalAuthorityClient::new(domain.admin().await);
    client.get_x509_authority_state(GetX509AuthorityStateRequest {}).await.unwrap().into_inner()
}

/// Rotated, tainted, revoked: all that it signed is replaced, workloads' SVIDs and the agent's own, and nobody is without meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compromised_authority_is_replaced_everywhere() {
    let domain = Domain::new().await;
    let agent = Agent::start(domain.agent("one", &domain.token(DAY).await));
    let id = agent.in_sync().await;
    domain.register(SHOP, &id).await;
    agent.serves(&[SHOP]).await;
    let before = authorities(&domain).await.active.unwrap().authority_id;
    let signed_by = |leaf: Vec<u8>| CertInfo::parse(&leaf.into()).unwrap().authority_key_id.unwrap();
    agent.leaf(|leaf| signed_by(leaf) == before).await;

    let rotate = ["authority", "rotate", "x509", "--settle", "0s"];
    assert!(domain.cli(&rotate).await.unwrap_err().contains("Nothing was done yet"));
    assert_eq!(authorities(&domain).await.active.unwrap().authority_id, before);
    domain.cli(&[&rotate[..], &["--yes"]].concat()).await.unwrap();
    let now = authorities(&domain).await;
    let active = now.active.unwrap().authority_id;
    assert_eq!(now.old.unwrap().authority_id, before);
    assert_ne!(active, before);

    let of = |verb, id: &str| ["authority", verb, "x509", "--yes", "--id", id].map(str::to_owned);
    let run = async |line: [String; 6]| domain.cli(&line.each_ref().map(String::as_str)).await;
    assert!(run(of("taint", &active)).await.unwrap_err().contains("still signs"));
    run(of("taint", &before)).await.unwrap();
    agent.leaf(|leaf| signed_by(leaf) == active).await;
    run(of("revoke", &before)).await.unwrap();
    assert!(run(of("revoke", &before)).await.is_err());

    // Its own SVID is one of the new authority too, or it has come back.
    domain.register("spiffe://demo.org/shop-2", &id).await;
    agent.serves(&[SHOP, "spiffe://demo.org/shop-2"]).await;
    assert_eq!(agent.in_sync().await, id);
    agent.stop().await;
}
