//! Connections that outlive who their ends were: another identity of ours, fewer servers that are expected.

use std::net::SocketAddr;

use http::StatusCode;
use svidecar::runtime::connections::LOSER_GRACE;
use svidecar_process::clock;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::{
    http::outbound,
    support::{
        agent::{Agent, Says},
        app,
        authority::Authority,
        client::{ask, get, http1, mtls, plain_get},
        server,
        sidecar::Sidecar,
        soon,
    },
};

const POLICY: &str = "
service: db
rules:
  - {name: both, from: [spiffe://demo.org/shop, spiffe://demo.org/other]}
";

fn inbound(app: SocketAddr, protocol: &str) -> String {
    format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", protocol: {protocol}, forward: \"{app}\", policy: policy.yaml}}\n"
    )
}

fn tcp_outbound(peer: SocketAddr) -> String {
    outbound(peer).replace("    upstream:", "    protocol: tcp\n    upstream:")
}

async fn echo() -> SocketAddr {
    app::tcp(|mut stream: TcpStream| async move {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await
}

async fn echoes(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"a").await.unwrap();
    assert_eq!(soon("an echo", stream.read_u8()).await.unwrap(), b'a');
}

/// It ends, and not before it had its grace.
async fn ends_after_the_grace(stream: &mut (impl AsyncRead + Unpin), since: tokio::time::Instant) {
    assert!(soon("the end of the connection", stream.read_u8()).await.is_err());
    assert!(clock::timer() - since >= LOSER_GRACE);
}

/// Gives the workload of a sidecar another message, and waits until it is in force.
async fn gives(agent: &Agent, sidecar: &Sidecar, authority: &Authority, path: &str) {
    let mut changes = sidecar.proxy.shared().current.subscribe();
    agent.says(Says::Gives(authority.response(path, &[])));
    soon("another identity", changes.changed()).await.unwrap();
}

async fn agent(authority: &Authority, path: &str) -> Agent {
    Agent::start(Says::Gives(authority.response(path, &[]))).await
}

/// From the moment on that we are somebody else, no request goes out under the old name: not over the connection that all
/// callers of a worker share, and not over one that waits for its next request.
#[tokio::test]
async fn requests_go_out_as_who_we_are_now() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let server = Sidecar::ready(&orders, &inbound(app::echo().await, "http")).await;
    let named = server::mtls(authority.identity("/orders"), &authority, &[b"http/1.1"], tell_who_asks).await;
    for peer in [server.inbound("orders"), named] {
        let shop = agent(&authority, "/shop").await;
        let client = Sidecar::ready(&shop, &outbound(peer)).await;
        let mut sender = http1(TcpStream::connect(client.outbound("orders")).await.unwrap()).await;
        for path in ["/shop", "/shop", "/other"] {
            gives(&shop, &client, &authority, path).await;
            let answer = ask(&mut sender, get("/")).await;
            let id = format!("x-spiffe-id: spiffe://demo.org{path}\n");
            assert!(answer.body.contains(&id), "{path}: {} {}", answer.status, answer.body);
        }
    }
}

/// A server of HTTP/1.1 that tells each client who it is.
async fn tell_who_asks(mut stream: TlsStream<TcpStream>) {
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let id = svidecar_authority::x509::verify::claimed_id(&leaf).unwrap();
    let body = format!("x-spiffe-id: {id}\n");
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

/// Connections that wait in a pool are closed: to the server, we are not there any more as who we were.
#[tokio::test]
async fn connections_that_wait_are_closed_when_we_are_somebody_else() {
    let authority = Authority::new("demo.org");
    let (ended, mut ends) = tokio::sync::mpsc::channel(1);
    let serve = move |stream| {
        let ended = ended.clone();
        async move {
            tell_who_asks(stream).await;
            ended.send(()).await.unwrap();
        }
    };
    let peer = server::mtls(authority.identity("/orders"), &authority, &[b"http/1.1"], serve).await;
    let shop = agent(&authority, "/shop").await;
    let client = Sidecar::ready(&shop, &outbound(peer)).await;
    assert_eq!(plain_get(client.outbound("orders"), "/").await.status, StatusCode::OK);
    gives(&shop, &client, &authority, "/other").await;
    soon("the end of the connection that waits", ends.recv()).await.unwrap();
}

/// Bytes, in streams of the connection that is shared and over one of their own. A renewal touches nothing.
#[tokio::test]
async fn tunnels_end_when_we_are_somebody_else() {
    let authority = Authority::new("demo.org");
    let db = agent(&authority, "/orders").await;
    let server = Sidecar::with_policy(&db, &inbound(echo().await, "tcp"), POLICY).await;
    server.until(|readiness| readiness.ready).await;
    let plain = server::mtls(authority.identity("/orders"), &authority, &[], |stream| async move {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    for peer in [server.inbound("orders"), plain] {
        let shop = agent(&authority, "/shop").await;
        let client = Sidecar::ready(&shop, &tcp_outbound(peer)).await;
        let mut tunnel = TcpStream::connect(client.outbound("orders")).await.unwrap();
        echoes(&mut tunnel).await;
        gives(&shop, &client, &authority, "/shop").await;
        echoes(&mut tunnel).await;
        let since = clock::timer();
        gives(&shop, &client, &authority, "/other").await;
        ends_after_the_grace(&mut tunnel, since).await;
        client.until_counted("identity_replaced").await;
        echoes(&mut TcpStream::connect(client.outbound("orders")).await.unwrap()).await;
    }
}

/// The other side: whoever connected to who we were gets no answer of who we are now.
#[tokio::test]
async fn peers_of_who_we_were_are_told_to_come_again() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let sidecar = Sidecar::with_policy(&orders, &inbound(echo().await, "tcp"), POLICY).await;
    sidecar.until(|readiness| readiness.ready).await;
    let connect = || mtls(sidecar.inbound("orders"), &authority, authority.identity("/shop"), &[]);
    let mut tunnel = connect().await.unwrap();
    echoes(&mut tunnel).await;
    gives(&orders, &sidecar, &authority, "/orders").await;
    echoes(&mut tunnel).await;
    let since = clock::timer();
    gives(&orders, &sidecar, &authority, "/intern").await;
    ends_after_the_grace(&mut tunnel, since).await;
    sidecar.until_counted("identity_replaced").await;
    echoes(&mut connect().await.unwrap()).await;
}

/// The settings of now say which servers are expected, also of a connection that was made by others.
#[tokio::test]
async fn a_server_that_is_no_longer_expected_loses_its_tunnels() {
    let authority = Authority::new("demo.org");
    let db = agent(&authority, "/orders").await;
    let server = Sidecar::with_policy(&db, &inbound(echo().await, "tcp"), POLICY).await;
    server.until(|readiness| readiness.ready).await;
    let plain = server::mtls(authority.identity("/orders"), &authority, &[], |stream| async move {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    for peer in [server.inbound("orders"), plain] {
        let shop = agent(&authority, "/shop").await;
        let settings =
            tcp_outbound(peer).replace("demo.org/orders\"", "demo.org/orders\", \"spiffe://demo.org/x\"");
        let client = Sidecar::ready(&shop, &settings).await;
        let mut tunnel = TcpStream::connect(client.outbound("orders")).await.unwrap();
        echoes(&mut tunnel).await;
        let config = std::fs::read_to_string(client.path("svidecar.yaml")).unwrap();
        // Other servers too: it is still expected.
        client.edit("svidecar.yaml", &config.replace("demo.org/x", "demo.org/y")).await;
        echoes(&mut tunnel).await;
        let since = clock::timer();
        client.edit("svidecar.yaml", &config.replace("\"spiffe://demo.org/orders\", ", "")).await;
        assert_eq!(client.proxy.shared().reload.borrow().error, None);
        ends_after_the_grace(&mut tunnel, since).await;
        client.until_counted("no_longer_allowed").await;
    }
}
