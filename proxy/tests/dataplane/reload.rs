//! New files while the proxy runs.

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    agent::{Agent, Says},
    app,
    authority::Authority,
    client::{ask, get, http1, mtls, mtls_on},
    sidecar::{POLICY, Sidecar},
    soon,
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

/// However long a peer takes for its handshake: what it was accepted by is not what it is admitted by.
#[tokio::test]
async fn a_policy_that_changes_during_a_handshake_is_heeded() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let stream = TcpStream::connect(sidecar.inbound("orders")).await.unwrap();
    sidecar.until_counted("svidecar_open_connections{direction=\"inbound\",listener=\"orders\"} 1").await;
    sidecar.edit_policy(&POLICY.replace("[spiffe://demo.org/shop, ", "[")).await;
    let stream = mtls_on(stream, &authority, authority.identity("/shop"), &[b"http/1.1"]).await.unwrap();
    assert_eq!(ask(&mut http1(stream).await, get("/orders")).await.status, StatusCode::FORBIDDEN);
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

/// A file that is gone is no policy: what was in force stays, and the file is taken when it is back.
#[tokio::test]
async fn a_policy_file_that_vanishes_changes_nothing_until_it_is_back() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let connect =
        |path| mtls(sidecar.inbound("orders"), &authority, authority.identity(path), &[b"http/1.1"]);
    let mut reloads = sidecar.proxy.shared().reload.subscribe();
    reloads.mark_unchanged();
    std::fs::remove_file(sidecar.path("policy.yaml")).unwrap();
    soon("a reload", reloads.changed()).await.unwrap();
    let ready = sidecar.admin("/ready").await;
    assert!(ready.status == StatusCode::OK && ready.body.contains("stale"), "{}", ready.body);
    let mut shop = http1(connect("/shop").await.unwrap()).await;
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);
    assert_eq!(ask(&mut shop, get("/admin")).await.status, StatusCode::FORBIDDEN);

    sidecar.edit_policy(&POLICY.replace("action: deny", "action: allow")).await;
    assert!(!sidecar.admin("/ready").await.body.contains("stale"));
    assert_eq!(ask(&mut shop, get("/admin")).await.status, StatusCode::OK);
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

/// A listener that is added comes, the one beside it does not notice.
#[tokio::test]
async fn a_new_listener_opens_and_the_old_connections_live_on() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let stream = mtls(sidecar.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"])
        .await
        .unwrap();
    let mut shop = http1(stream).await;
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);

    let socket = sidecar.path("new.sock");
    let config = std::fs::read_to_string(sidecar.path("svidecar.yaml")).unwrap()
        + &format!(
            "outbound:\n  - {{name: new, listen: \"unix:{}\", upstream: {{endpoints: [\"127.0.0.1:9\"], server_id: [\"spiffe://demo.org/x\"]}}}}\n",
            socket.display()
        );
    sidecar.edit("svidecar.yaml", &config).await;
    assert_eq!(sidecar.proxy.shared().reload.borrow().error, None);
    let mut new = http1(tokio::net::UnixStream::connect(&socket).await.unwrap()).await;
    assert_eq!(ask(&mut new, get("/")).await.headers["x-svidecar-error"], "upstream_refused");
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK, "the same connection");

    let broken = config.replace("protocol:", "protcol:") + "wrokers: 3\n";
    sidecar.edit("svidecar.yaml", &broken).await;
    let error = sidecar.proxy.shared().reload.borrow().error.clone().unwrap();
    assert!(error.contains("wrokers") && error.contains("workers"), "{error}");
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);
}

/// `max_connections` holds across workers, and a new value needs no new sockets.
#[tokio::test]
async fn connections_over_the_limit_are_refused_until_it_is_raised() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let listeners = format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{}\", policy: policy.yaml, limits: {{max_connections: 1}}}}\n",
        app::echo().await
    );
    let sidecar = Sidecar::ready(&agent, &listeners).await;
    let connect = || mtls(sidecar.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"]);
    let mut first = http1(connect().await.unwrap()).await;
    assert_eq!(ask(&mut first, get("/")).await.status, StatusCode::OK);
    for _ in 0..4 {
        // Whichever worker takes it.
        let refused = ask(&mut http1(connect().await.unwrap()).await, get("/")).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers["x-svidecar-error"], "too_many_connections");
    }
    let config = std::fs::read_to_string(sidecar.path("svidecar.yaml")).unwrap();
    sidecar.edit("svidecar.yaml", &config.replace("max_connections: 1", "max_connections: 2")).await;
    let mut second = http1(connect().await.unwrap()).await;
    assert_eq!(ask(&mut second, get("/")).await.status, StatusCode::OK);
    assert_eq!(ask(&mut first, get("/")).await.status, StatusCode::OK);
}

/// A listener that is taken out of the settings does not live on in its connections.
#[tokio::test]
async fn a_removed_listener_takes_its_connections_along() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let address = sidecar.inbound("orders");
    let stream = mtls(address, &authority, authority.identity("/shop"), &[b"http/1.1"]).await.unwrap();
    let mut shop = http1(stream).await;
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);
    let config = std::fs::read_to_string(sidecar.path("svidecar.yaml")).unwrap();
    let without = config.split("inbound:").next().unwrap();
    sidecar.edit("svidecar.yaml", without).await;
    soon("the end of the connection", async {
        while !shop.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon("new connections to be refused", async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_listener_that_is_removed_during_a_handshake_serves_nobody() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let stream = TcpStream::connect(sidecar.inbound("orders")).await.unwrap();
    sidecar.until_counted("svidecar_open_connections{direction=\"inbound\",listener=\"orders\"} 1").await;
    let config = std::fs::read_to_string(sidecar.path("svidecar.yaml")).unwrap();
    sidecar.edit("svidecar.yaml", config.split("inbound:").next().unwrap()).await;
    let mut stream = mtls_on(stream, &authority, authority.identity("/shop"), &[b"http/1.1"]).await.unwrap();
    let _ = stream.write_all(b"GET /orders HTTP/1.1\r\nhost: orders\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

/// What a listener allows at its new address is not for those who came by the old one.
#[tokio::test]
async fn an_address_and_a_policy_that_change_together_apply_together() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let address = sidecar.inbound("orders");
    let identity = || authority.identity("/shop");
    let mut shop = http1(mtls(address, &authority, identity(), &[b"http/1.1"]).await.unwrap()).await;
    assert_eq!(ask(&mut shop, get("/admin")).await.status, StatusCode::FORBIDDEN);
    let slow = TcpStream::connect(address).await.unwrap();
    sidecar.until_counted("svidecar_open_connections{direction=\"inbound\",listener=\"orders\"} 2").await;

    std::fs::write(sidecar.path("open.yaml"), POLICY.replace("action: deny", "action: allow")).unwrap();
    let config = std::fs::read_to_string(sidecar.path("svidecar.yaml")).unwrap();
    let moved = config.replace("listen: \"127.0.0.1:0\", f", "listen: \"127.0.0.2:0\", f");
    sidecar.edit("svidecar.yaml", &moved.replace("policy: policy.yaml", "policy: open.yaml")).await;
    assert_eq!(sidecar.proxy.shared().reload.borrow().error, None);
    // It is closed, or refused where it was quicker than its end.
    if let Ok(answer) = soon("an answer or the end", shop.send_request(get("/admin"))).await {
        assert_eq!(answer.headers()["x-svidecar-error"], "draining");
    }
    if let Ok(stream) = mtls_on(slow, &authority, identity(), &[b"http/1.1"]).await {
        let answer = soon("the end", http1(stream).await.send_request(get("/admin"))).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// Other files in the directory may be written as often as they like: a revocation is in force at once.
#[tokio::test]
async fn a_policy_is_taken_while_other_files_are_written_without_end() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = server(&authority).await;
    let status = async || {
        let identity = authority.identity("/shop");
        let stream = mtls(sidecar.inbound("orders"), &authority, identity, &[b"http/1.1"]).await;
        ask(&mut http1(stream.unwrap()).await, get("/orders")).await.status
    };
    assert_eq!(status().await, StatusCode::OK);
    let other = sidecar.path("other.yaml");
    let writing = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            ticks.tick().await;
            std::fs::write(&other, "x").unwrap();
        }
    };
    let revoking = async {
        sidecar.edit_policy(&POLICY.replace("[spiffe://demo.org/shop, ", "[")).await;
        status().await
    };
    tokio::select! {
        status = revoking => assert_eq!(status, StatusCode::FORBIDDEN),
        () = writing => {}
    }
}
