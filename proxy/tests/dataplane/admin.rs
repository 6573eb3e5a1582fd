//! The admin's pages.

use http::StatusCode;

use crate::support::{
    agent::{Agent, Says},
    app,
    authority::Authority,
    client::{ask, http1},
    sidecar::Sidecar,
};

async fn sidecar(agent: &Agent) -> Sidecar {
    let listeners = format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{}\", policy: policy.yaml}}\n",
        app::echo().await
    );
    Sidecar::start(agent, &listeners).await
}

async fn post(sidecar: &Sidecar, path: &str, body: String) -> (StatusCode, serde_json::Value) {
    let stream = tokio::net::TcpStream::connect(sidecar.proxy.admin_address().unwrap()).await.unwrap();
    let request = http::Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap();
    let response = ask(&mut http1(stream).await, request).await;
    (response.status, serde_json::from_str(&response.body).unwrap())
}

#[tokio::test]
async fn local_apps_read_the_identity_and_never_its_key() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let sidecar = sidecar(&agent).await;
    sidecar.until(|readiness| readiness.ready).await;
    for (path, expected) in [
        ("/live", "live"),
        ("/ready", "\"ready\": true"),
        ("/config", "\"in_force_since\""),
        ("/certs", "spiffe://demo.org/orders"),
        ("/policy", "shop-may-order"),
        ("/metrics", "svidecar_ready"),
        ("/spiffe/status", "\"enabled\": true"),
        ("/spiffe/workload", "spiffe://demo.org/orders"),
        ("/spiffe/svid/x509", "\"serial_number\""),
        ("/spiffe/svid/x509/chain", "-----BEGIN CERTIFICATE-----"),
        ("/spiffe/.well-known/spiffe-bundle", "\"keys\""),
        ("/spiffe/trust-bundle", "demo.org"),
    ] {
        let page = sidecar.admin(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        assert!(page.body.contains(expected), "{path}: {}", page.body);
        assert!(!page.body.contains("PRIVATE KEY"), "{path}");
    }
    let moved = sidecar.admin("/spiffe/svid/jwt?audience=partner").await;
    assert!(moved.status == StatusCode::NOT_FOUND && moved.body.contains("local_api"), "{}", moved.body);
    assert_eq!(sidecar.admin("/nope").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn chains_are_validated_for_local_apps() {
    let (authority, stranger) = (Authority::new("demo.org"), Authority::new("stranger.org"));
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let sidecar = sidecar(&agent).await;
    sidecar.until(|readiness| readiness.ready).await;
    let body = |authority: &Authority| {
        let identity = authority.identity("/shop");
        let pem = svidecar_authority::pem::encode_certificates(identity.chain());
        serde_json::json!({ "certificate": pem }).to_string()
    };
    let (status, answer) = post(&sidecar, "/spiffe/validate/x509", body(&authority)).await;
    assert_eq!((status, &answer["valid"]), (StatusCode::OK, &true.into()), "{answer}");
    assert_eq!(answer["spiffe_id"], "spiffe://demo.org/shop");
    let (_, answer) = post(&sidecar, "/spiffe/validate/x509", body(&stranger)).await;
    assert_eq!(answer["code"], "unknown_trust_domain", "{answer}");
    let token = serde_json::json!({ "token": "x", "audience": "y" }).to_string();
    let (_, answer) = post(&sidecar, "/spiffe/validate/jwt", token).await;
    assert_eq!(answer["valid"], false, "{answer}");
    let (status, _) = post(&sidecar, "/spiffe/validate/jwt", "x".repeat(100_000)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn without_a_workload_api_the_pages_explain() {
    let agent = Agent::start(Says::Denied).await;
    let sidecar = sidecar(&agent).await;
    sidecar.until(|readiness| readiness.conditions[0].state == "no_identity_issued").await;
    for path in ["/spiffe/svid/x509", "/spiffe/svid/x509/chain", "/spiffe/trust-bundle"] {
        let page = sidecar.admin(path).await;
        assert!(page.body.contains("\"enabled\": false"), "{path}: {}", page.body);
        assert!(page.body.contains("registration entry"), "{path}: {}", page.body);
    }
}

/// What a form of a web page can send is not looked at.
#[tokio::test]
async fn what_is_posted_has_to_be_json_by_its_type() {
    let agent = Agent::start(Says::Denied).await;
    let sidecar = sidecar(&agent).await;
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let stream = tokio::net::TcpStream::connect(sidecar.proxy.admin_address().unwrap()).await.unwrap();
        let mut request = http::Request::post("/spiffe/validate/jwt").header("host", "localhost");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(r#"{"token": "x", "audience": "y"}"#.into()).unwrap();
        let response = ask(&mut http1(stream).await, request).await;
        assert_eq!(response.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
    }
}

/// A web page whose name was made to resolve to this machine must not read the admin.
#[tokio::test]
async fn a_foreign_host_is_refused() {
    let agent = Agent::start(Says::Denied).await;
    let sidecar = sidecar(&agent).await;
    let stream = tokio::net::TcpStream::connect(sidecar.proxy.admin_address().unwrap()).await.unwrap();
    let request = http::Request::builder()
        .uri("/config")
        .header("host", "evil.example.com")
        .body(http_body_util::Full::default())
        .unwrap();
    let response = ask(&mut http1(stream).await, request).await;
    assert_eq!(response.status, StatusCode::MISDIRECTED_REQUEST);
}
