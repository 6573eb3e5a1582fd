//! Handshakes that must fail, and what the other side gets to see.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use svidecar::runtime::connections::LOSER_GRACE;
use svidecar_authority::{time, tls::NoIdentity};
use svidecar_process::clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_rustls::server::TlsStream;

use crate::{
    http::outbound,
    support::{
        agent::{Agent, Says},
        app,
        authority::{Authority, HOUR},
        client::{ask, get, http1, http2, mtls, plain_get},
        server,
        sidecar::Sidecar,
        soon,
    },
};

async fn orders(authority: &Authority) -> (Agent, Sidecar) {
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let listeners = format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{}\", policy: policy.yaml}}\n",
        app::echo().await
    );
    let sidecar = Sidecar::ready(&agent, &listeners).await;
    (agent, sidecar)
}

#[tokio::test]
async fn plain_http_gets_an_answer_that_explains() {
    let authority = Authority::new("demo.org");
    let (_agent, sidecar) = orders(&authority).await;
    let mut stream = TcpStream::connect(sidecar.inbound("orders")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("mutual TLS"), "{answer}");
    sidecar.until_counted("peer_spoke_plaintext").await;
}

/// C1, C7: nobody gets in without an SVID that the bundle of its own trust domain verifies.
#[tokio::test]
async fn only_members_of_trusted_domains_get_in() {
    let authority = Authority::new("demo.org");
    let (stranger, impostor) = (Authority::new("stranger.org"), Authority::new("demo.org"));
    let (_agent, sidecar) = orders(&authority).await;
    let address = sidecar.inbound("orders");
    let old = time::minus(clock::unix(), HOUR);
    let expired = authority.identity_at("/shop", Duration::from_secs(60), old);
    let attempts = [
        ("no_client_cert", mtls(address, &authority, NoIdentity, &[]).await),
        ("unknown_trust_domain", mtls(address, &authority, stranger.identity("/shop"), &[]).await),
        ("untrusted_root", mtls(address, &authority, impostor.identity("/shop"), &[]).await),
        ("expired", mtls(address, &authority, expired, &[]).await),
    ];
    for (code, attempt) in attempts {
        // In TLS 1.3 the client learns of the refusal when it reads.
        if let Ok(mut stream) = attempt {
            let read = soon("the refusal", stream.read_u8()).await;
            assert!(read.is_err(), "{code}");
        }
        sidecar.until_counted(code).await;
    }
}

/// The server's ID is checked before a byte of the request leaves.
#[tokio::test]
async fn an_unexpected_server_gets_no_request() {
    let authority = Authority::new("demo.org");
    let (_agent, server) = orders(&authority).await;
    let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let listeners = outbound(server.inbound("orders")).replace("demo.org/orders", "demo.org/invoices");
    let client = Sidecar::ready(&shop, &listeners).await;
    let response = plain_get(client.outbound("orders"), "/").await;
    assert_eq!(response.status, StatusCode::BAD_GATEWAY);
    assert_eq!(response.headers["x-svidecar-error"], "id_not_allowed");
}

/// C11: a federated domain is trusted while its bundle is there, and its connections end when it goes.
#[tokio::test]
async fn a_bundle_that_goes_takes_its_connections_along() {
    let (authority, partner) = (Authority::new("demo.org"), Authority::new("partner.org"));
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[&partner]))).await;
    let policy = "
service: orders
rules:
  - {name: all, from: [\"spiffe://partner.org/**\", \"spiffe://demo.org/**\"]}
";
    let listeners = format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{}\", policy: policy.yaml}}\n",
        app::echo().await
    );
    let sidecar = Sidecar::with_policy(&agent, &listeners, policy).await;
    sidecar.until(|readiness| readiness.ready).await;
    let address = sidecar.inbound("orders");
    let connect = |identity| mtls(address, &authority, identity, &[b"http/1.1"]);
    let mut theirs = http1(connect(partner.identity("/agent")).await.unwrap()).await;
    let mut ours = http1(connect(authority.identity("/shop")).await.unwrap()).await;
    assert_eq!(ask(&mut theirs, get("/")).await.status, StatusCode::OK);
    assert_eq!(ask(&mut ours, get("/")).await.status, StatusCode::OK);

    agent.says(Says::Gives(authority.response("/orders", &[])));
    soon("the partner's connection to end", async {
        while !theirs.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ask(&mut ours, get("/")).await.status, StatusCode::OK);
}

/// The same the other way round: a request that runs ends after the grace when its server loses its trust, where the
/// server has a connection of HTTP/1.1 for each request.
#[tokio::test]
async fn a_bundle_that_goes_takes_the_requests_to_its_servers_along() {
    let (authority, partner) = (Authority::new("demo.org"), Authority::new("partner.org"));
    let asked = Arc::new(Semaphore::new(0));
    let told = Arc::clone(&asked);
    // Reads the request, and never answers.
    let serve = move |mut stream: TlsStream<TcpStream>| {
        let told = Arc::clone(&told);
        async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            told.add_permits(1);
            let _ = stream.read_u8().await;
        }
    };
    let address = server::mtls(partner.identity("/orders"), &authority, &[b"http/1.1"], serve).await;
    let agent = Agent::start(Says::Gives(authority.response("/shop", &[&partner]))).await;
    let listeners = outbound(address).replace("demo.org/orders", "partner.org/orders");
    let client = Sidecar::ready(&agent, &listeners).await;

    let connect = async || TcpStream::connect(client.outbound("orders")).await.unwrap();
    let (mut sender1, mut sender2) = (http1(connect().await).await, http2(connect().await).await);
    let in_http1 = tokio::spawn(async move { sender1.send_request(get("/")).await });
    let request = http::Request::get("http://orders/").body(http_body_util::Full::default()).unwrap();
    let in_http2 = tokio::spawn(async move { sender2.send_request(request).await });
    let _ = soon("the requests to arrive", asked.acquire_many(2)).await.unwrap();
    let start = clock::timer();
    agent.says(Says::Gives(authority.response("/shop", &[])));
    for answer in [in_http1, in_http2] {
        let answer = soon("the end of the request", answer).await.unwrap();
        assert!(answer.is_err(), "{answer:?}");
        assert!(clock::timer() - start >= LOSER_GRACE);
    }
    client.until_counted("no_longer_allowed").await;
}
