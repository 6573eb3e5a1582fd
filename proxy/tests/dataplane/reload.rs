//! New files while the proxy runs.

use http::StatusCode;

use crate::support::{
    agent::{Agent, Says},
    app,
    authority::Authority,
    client::{ask, get, http1, mtls},
    sidecar::{POLICY, Sidecar},
};

async fn server(authority: &Authority) -> (Agent, Sidecar) {
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let listeners = format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{}\", policy: policy.yaml}}\n",
        app::echo().await
    );
    let sidecar = Sidecar::ready(&agent, &listeners).await;
    (agent, sidecar)
}

#[tokio::test]
async fn a_new_policy_rules_the_next_request_of_a_live_connection() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let connect =
        |path| mtls(sidecar.inbound("orders"), &authority, authority.identity(path), &[b"http/1.1"]);
    let mut shop = http1(connect("/shop").await.unwrap()).await;
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);
    assert_eq!(ask(&mut shop, get("/admin")).await.status, StatusCode::FORBIDDEN);
    let opened = POLICY.replace("action: deny", "action: allow");
    sidecar.edit_policy(&opened).await;
    assert_eq!(ask(&mut shop, get("/admin")).await.status, StatusCode::OK, "the same connection");
}

#[tokio::test]
async fn an_invalid_policy_changes_nothing_and_says_where() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let connect =
        |path| mtls(sidecar.inbound("orders"), &authority, authority.identity(path), &[b"http/1.1"]);
    let mut shop = http1(connect("/shop").await.unwrap()).await;
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);

    sidecar.edit_policy("service: orders\nrules:\n  - {name: a, form: [spiffe://demo.org/x]}\n").await;
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);
    let ready = sidecar.admin("/ready").await;
    assert_eq!(ready.status, StatusCode::OK, "it serves by the old one");
    assert!(ready.body.contains("policy.yaml:3:"), "{}", ready.body);
    assert!(ready.body.contains("stale"), "{}", ready.body);

    sidecar.edit_policy(POLICY).await;
    let ready = sidecar.admin("/ready").await;
    assert!(!ready.body.contains("stale"), "{}", ready.body);
}

/// The policy's own tests guard it.
#[tokio::test]
async fn a_policy_that_fails_its_tests_is_not_taken() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let failing =
        format!("{POLICY}tests:\n  - {{peer: spiffe://demo.org/shop, request: GET /admin, expect: allow}}\n");
    sidecar.edit_policy(&failing).await;
    let status = sidecar.proxy.shared().reload.borrow().clone();
    assert_eq!((status.generation, status.failures), (1, 1));
}
