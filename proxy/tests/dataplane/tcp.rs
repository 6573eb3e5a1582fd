//! Bytes of any protocol.

use svidecar::runtime::connections::LOSER_GRACE;
use svidecar_process::clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    agent::{Agent, Says},
    app,
    authority::Authority,
    client::mtls,
    sidecar::Sidecar,
    soon,
};

const POLICY: &str = "
service: db
rules:
  - {name: shop-only, from: [spiffe://demo.org/shop]}
";

fn inbound(app: std::net::SocketAddr) -> String {
    format!(
        "inbound:\n  - {{name: db, listen: \"127.0.0.1:0\", protocol: tcp, forward: \"{app}\", policy: policy.yaml}}\n"
    )
}

/// Reads a question to its end, then answers with it doubled.
async fn doubler() -> std::net::SocketAddr {
    app::tcp(|mut stream: TcpStream| async move {
        let mut question = String::new();
        if stream.read_to_string(&mut question).await.is_ok() {
            let _ = stream.write_all(question.repeat(2).as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn half_close_goes_through_two_sidecars() {
    let authority = Authority::new("demo.org");
    let db = Agent::start(Says::Gives(authority.response("/db", &[]))).await;
    let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let server = Sidecar::with_policy(&db, &inbound(doubler().await), POLICY).await;
    server.until(|readiness| readiness.ready).await;
    let listeners = format!(
        "outbound:\n  - name: db\n    listen: \"127.0.0.1:0\"\n    protocol: tcp\n    upstream: {{endpoints: [\"{}\"], server_id: [\"spiffe://demo.org/db\"]}}\n",
        server.inbound("db")
    );
    let client = Sidecar::ready(&shop, &listeners).await;
    let mut stream = TcpStream::connect(client.outbound("db")).await.unwrap();
    stream.write_all(b"question ").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "question question ");
}

#[tokio::test]
async fn a_peer_that_the_policy_does_not_name_gets_nothing() {
    let authority = Authority::new("demo.org");
    let db = Agent::start(Says::Gives(authority.response("/db", &[]))).await;
    let server = Sidecar::with_policy(&db, &inbound(doubler().await), POLICY).await;
    server.until(|readiness| readiness.ready).await;
    let mut stream = mtls(server.inbound("db"), &authority, authority.identity("/other"), &[]).await.unwrap();
    let _ = stream.write_all(b"question").await;
    let mut answer = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn an_app_that_is_down_resets_the_peer() {
    let authority = Authority::new("demo.org");
    let db = Agent::start(Says::Gives(authority.response("/db", &[]))).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let server = Sidecar::with_policy(&db, &inbound(address), POLICY).await;
    server.until(|readiness| readiness.ready).await;
    let mut stream = mtls(server.inbound("db"), &authority, authority.identity("/shop"), &[]).await.unwrap();
    let error = soon("the end", stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A policy edit closes the connections that it no longer allows, and no other.
#[tokio::test]
async fn a_policy_edit_closes_only_losers() {
    let authority = Authority::new("demo.org");
    let db = Agent::start(Says::Gives(authority.response("/db", &[]))).await;
    let echo = app::tcp(|mut stream: TcpStream| async move {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let both = "
service: db
rules:
  - {name: both, from: [spiffe://demo.org/shop, spiffe://demo.org/other]}
";
    let server = Sidecar::with_policy(&db, &inbound(echo), both).await;
    server.until(|readiness| readiness.ready).await;
    let connect = |path| mtls(server.inbound("db"), &authority, authority.identity(path), &[]);
    let (mut shop, mut other) = (connect("/shop").await.unwrap(), connect("/other").await.unwrap());
    for stream in [&mut shop, &mut other] {
        stream.write_all(b"a").await.unwrap();
        assert_eq!(soon("an echo", stream.read_u8()).await.unwrap(), b'a');
    }
    server.edit_policy(POLICY).await;
    let start = clock::timer();
    let _ = soon("the loser's end", other.read_u8()).await.unwrap_err();
    assert!(clock::timer() - start < LOSER_GRACE * 3);
    shop.write_all(b"b").await.unwrap();
    assert_eq!(soon("an echo after the edit", shop.read_u8()).await.unwrap(), b'b');
}

/// Lets one connection wait, and no more.
fn narrow_door() -> tokio::net::TcpListener {
    let door = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    door.set_nonblocking(true).unwrap();
    door.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    door.listen(0).unwrap();
    tokio::net::TcpListener::from_std(door.into()).unwrap()
}

/// What is decided while the app is being reached is decided again when the policy changes meanwhile.
#[tokio::test]
async fn a_policy_that_changes_before_the_app_is_reached_is_heeded() {
    let authority = Authority::new("demo.org");
    let db = Agent::start(Says::Gives(authority.response("/db", &[]))).await;
    let door = narrow_door();
    let app = door.local_addr().unwrap();
    let _first = TcpStream::connect(app).await.unwrap();
    let listeners =
        inbound(app).replace("policy: policy.yaml", "policy: policy.yaml, timeouts: {connect: 30s}");
    let server = Sidecar::with_policy(&db, &listeners, POLICY).await;
    server.until(|readiness| readiness.ready).await;
    let mut stream = mtls(server.inbound("db"), &authority, authority.identity("/shop"), &[]).await.unwrap();
    server.edit_policy(&POLICY.replace("shop]", "nobody]")).await;
    // Now the sidecar gets in, if it still wants to.
    tokio::spawn(async move {
        let mut in_here = Vec::new();
        while let Ok((stream, _)) = door.accept().await {
            in_here.push(stream);
        }
    });
    let mut answer = Vec::new();
    let _ = soon("the end of what is no longer allowed", stream.read_to_end(&mut answer)).await;
}
