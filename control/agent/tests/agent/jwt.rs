//! JWT-SVIDs and bundles through the Workload API.

use svidecar_api::workload::{JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest};
use svidecar_authority::bundle::Bundle;
use tonic::{Code, Status};

use crate::harness::{Agent, Bed, my_uid, request, soon};

async fn tokens(agent: &Agent, audience: &[&str], spiffe_id: &str) -> Result<Vec<(String, String)>, Status> {
    let message = JwtsvidRequest {
        audience: audience.iter().map(ToString::to_string).collect(),
        spiffe_id: spiffe_id.into(),
    };
    let answer = soon(agent.client().await.fetch_jwtsvid(request(message))).await?.into_inner();
    Ok(answer.svids.into_iter().map(|svid| (svid.spiffe_id, svid.svid)).collect())
}

/// H20, H15
#[tokio::test]
async fn tokens_are_for_every_identity_or_for_the_one_asked_for() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/a", &[&my_uid()]);
    bed.world.create_entry("e2", "/b", &[&my_uid()]);
    let agent = bed.agent().await;
    let all = tokens(&agent, &["orders"], "").await.unwrap();
    let ids: Vec<_> = all.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["spiffe://demo.org/a", "spiffe://demo.org/b"]);
    let one = tokens(&agent, &["orders"], "spiffe://demo.org/b").await.unwrap();
    assert_eq!(one.len(), 1);
    // The same token is used again in the first half of its life.
    assert_eq!(one[0], all[1]);

    let code = |outcome: Result<Vec<(String, String)>, Status>| outcome.unwrap_err().code();
    assert_eq!(code(tokens(&agent, &["orders"], "spiffe://demo.org/c").await), Code::PermissionDenied);
    assert_eq!(code(tokens(&agent, &[], "").await), Code::InvalidArgument);
    assert_eq!(code(tokens(&agent, &["orders"], "nonsense").await), Code::InvalidArgument);
    agent.stop().await;
}

/// H22
#[tokio::test]
async fn tokens_are_validated_by_all_rules() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/a", &[&my_uid()]);
    let agent = bed.agent().await;
    let (_, token) = tokens(&agent, &["orders"], "").await.unwrap().remove(0);
    let mut client = agent.client().await;
    let message = |audience: &str, svid: &str| {
        request(ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() })
    };
    let valid = client.validate_jwtsvid(message("orders", &token)).await.unwrap().into_inner();
    assert_eq!(valid.spiffe_id, "spiffe://demo.org/a");
    assert!(valid.claims.unwrap().fields.contains_key("exp"));
    for (audience, svid) in [("others", token.as_str()), ("orders", "a.b.c"), ("", &token), ("orders", "")] {
        let refused = client.validate_jwtsvid(message(audience, svid)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{audience}");
    }
    agent.stop().await;
}

/// H21
#[tokio::test]
async fn jwt_bundles_have_the_own_trust_domain_and_only_signing_keys_of_tokens() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/a", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut client = agent.client().await;
    let mut stream = client.fetch_jwt_bundles(request(JwtBundlesRequest {})).await.unwrap().into_inner();
    let message = soon(stream.message()).await.unwrap().unwrap();
    let keys = Bundle::jwt_keys_from_jwks(&message.bundles["spiffe://demo.org"]).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].kid, "kid-1");
    agent.stop().await;
}

/// A token that was signed is given out again while the server is away; a new one is not to be had.
#[tokio::test]
async fn known_tokens_outlive_the_server() {
    let mut bed = Bed::new(true);
    bed.world.create_entry("e1", "/a", &[&my_uid()]);
    let agent = bed.agent().await;
    let before = tokens(&agent, &["orders"], "").await.unwrap();
    bed.stop_server().await;
    assert_eq!(tokens(&agent, &["orders"], "").await.unwrap(), before);
    assert_eq!(tokens(&agent, &["others"], "").await.unwrap_err().code(), Code::Unavailable);
    agent.stop().await;
}

#[tokio::test]
async fn verifiers_without_an_identity_need_permission() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/others", &["unix:uid:4000000"]);
    let mut settings = bed.settings();
    settings.allow_unauthenticated_verifiers = true;
    let agent = bed.start(settings);
    agent.ready().await;
    let mut client = agent.client().await;
    let mut stream = client.fetch_jwt_bundles(request(JwtBundlesRequest {})).await.unwrap().into_inner();
    assert_eq!(soon(stream.message()).await.unwrap().unwrap().bundles.len(), 1);
    assert_eq!(tokens(&agent, &["orders"], "").await.unwrap_err().code(), Code::PermissionDenied);
    agent.stop().await;
}
