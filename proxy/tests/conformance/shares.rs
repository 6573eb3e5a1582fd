//! One that takes what it can get, and beside it others who must not notice: silent sockets, peers that may do nothing,
//! unfinished heads.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::{
    support::{
        agent::{Agent, Says},
        app,
        client::{ask, get, http1},
        sidecar::Sidecar,
    },
    tools::{
        http2::{Frame, Http2, Outcome, code, setting},
        process::Process,
        scene::{Door, Scene},
        wire::Wire,
    },
};

const SVIDECAR: &[u8] = b"svidecar/1";

/// A peer whose ID the policy names nowhere.
const DENIED: &str = "/denied";

/// As many connections as would fill the listener three times.
const MANY: usize = 300;

/// How often the other asks while somebody takes what there is, each time on a new connection.
const TIMES: usize = 50;

async fn scene(door: Door) -> Scene {
    Scene::with(door, app::echo().await, "limits: {max_connections: 100}").await
}

/// A connection inside of a shared one, in which HTTP/1.1 is spoken.
fn connect(stream: u32) -> Frame {
    let head = [
        (":method", "CONNECT"),
        (":protocol", "http/1.1"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "a"),
    ];
    Frame::headers(stream, false, &head)
}

/// A peer that the policy allows is served, each time.
async fn is_served(scene: &Scene) {
    for time in 0..TIMES {
        let mut client = http1(scene.mtls_as("/shop", b"http/1.1").await).await;
        let answer = ask(&mut client, get("/")).await;
        assert_eq!(answer.status, 200, "{time}: {:?} {}", answer.headers, answer.body);
    }
}

async fn silent(address: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..MANY {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    held
}

#[tokio::test]
async fn sockets_that_say_nothing_take_no_connection_of_a_peer() {
    let scene = scene(Door::Inbound).await;
    let _held = silent(scene.server.inbound("orders")).await;
    is_served(&scene).await;
}

#[tokio::test]
async fn local_sockets_that_say_nothing_take_no_connection_of_the_workload() {
    let agent = Agent::start(Says::Denied).await;
    let listeners = "outbound:\n  - {name: orders, listen: \"127.0.0.1:0\", upstream: {endpoints: [\"127.0.0.1:9\"], server_id: [\"spiffe://demo.org/x\"]}, limits: {max_connections: 100}}\n";
    let sidecar = Sidecar::start(&agent, listeners).await;
    let address = sidecar.outbound("orders");
    let _held = silent(address).await;
    for _ in 0..TIMES {
        let mut client = http1(TcpStream::connect(address).await.unwrap()).await;
        // It is answered: the proxy has no identity in this test.
        assert_eq!(ask(&mut client, get("/")).await.headers["x-svidecar-error"], "no_identity");
    }
}

/// Handshakes are over, and nobody asks for anything; or all are denied and never leave.
#[tokio::test]
async fn a_denied_peer_takes_no_connection_of_an_allowed_one() {
    let scene = scene(Door::Inbound).await;
    let mut held = Vec::new();
    for number in 0..MANY / 2 {
        let mut client = http1(scene.mtls_as(DENIED, b"http/1.1").await).await;
        if number % 2 == 0 {
            assert_eq!(ask(&mut client, get("/")).await.status, 403);
        }
        held.push(client);
    }
    is_served(&scene).await;
}

/// The same within a shared connection: CONNECT is agreed to before anybody knows what is asked for in it.
#[tokio::test]
async fn streams_of_a_denied_peer_take_no_connection_of_an_allowed_one() {
    let scene = scene(Door::Inbound).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        // Nor does it take any answer.
        let wire = Wire::tls(scene.mtls_as(DENIED, SVIDECAR).await);
        let mut client = Http2::begin_with(wire, &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        let frames: Vec<_> = (0..99)
            .map(
                |number| {
                    if number % 3 == 0 { Frame::get(number * 2 + 1, "/") } else { connect(number * 2 + 1) }
                },
            )
            .collect();
        client.try_send(&frames).await.unwrap();
        // Each has its answer, as far as it can have one.
        for number in 0..99 {
            client.head(number * 2 + 1).await;
        }
        held.push(client);
    }
    is_served(&scene).await;
}

/// A peer that is allowed cannot have all either, and hears why.
#[tokio::test]
async fn a_peer_that_has_its_share_is_told_so_and_the_next_one_is_served() {
    let scene = scene(Door::Inbound).await;
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut client = http1(scene.mtls_as("/shop", b"http/1.1").await).await;
        let answer = ask(&mut client, get("/")).await;
        match answer.status.as_u16() {
            200 => held.push(client),
            503 => {
                assert_eq!(answer.headers["x-svidecar-error"], "too_many_connections");
                assert_eq!(answer.headers["connection"], "close");
                refused += 1;
            }
            status => panic!("{status}"),
        }
    }
    assert_eq!((held.len(), refused), (89, 11));
    let mut other = http1(scene.mtls_as("/other", b"http/1.1").await).await;
    assert_eq!(ask(&mut other, get("/")).await.status, 200);
    // What it has goes on.
    assert_eq!(ask(&mut held[0], get("/")).await.status, 200);

    // Within a shared connection it is the same.
    let mut shared = Http2::begin(Wire::tls(scene.mtls_as("/shop", b"h2").await)).await;
    match shared.get(1, "/").await {
        Outcome::Response(response) => assert_eq!(response.status, 503),
        other => panic!("{other:?}"),
    }
}

/// SETTINGS that give and take the windows of all streams cost the same for one stream and for many. How much that is, unit
/// tests count; here the connection ends, and nobody else notices.
#[tokio::test]
async fn windows_that_come_and_go_end_the_connection() {
    let scene = scene(Door::Inbound).await;
    let mut client = Http2::begin(Wire::tls(scene.mtls_as("/shop", SVIDECAR).await)).await;
    let frames: Vec<_> = (0..200).map(|number| connect(number * 2 + 1)).collect();
    client.try_send(&frames).await.unwrap();
    let toggle = [0, 65_535].map(|size| Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, size)]));
    while client.try_send(&toggle).await.is_ok() {
        if client.turn_if_ready().await.is_some_and(|turn| turn.is_err()) || client.goaway.is_some() {
            break;
        }
    }
    client.ended().await;
    assert_eq!(client.goaway, Some(code::ENHANCE_YOUR_CALM));
    is_served(&scene).await;
}

/// Heads that are never complete, each in a stream of its own: what they take is bounded, whoever sends them.
#[tokio::test]
async fn unfinished_heads_take_little_memory() {
    const HEADS: u32 = 3000;
    const MIB: usize = 1 << 20;
    for (peer, most) in [(DENIED, 24 * MIB), ("/shop", 100 * MIB)] {
        let scene = Scene::<Process>::of_processes(Door::Inbound, app::echo().await).await;
        let mut warm = http1(scene.mtls_as("/shop", b"http/1.1").await).await;
        assert_eq!(ask(&mut warm, get("/")).await.status, 200);
        scene.server.forget_peak();
        let before = scene.server.peak();
        let part = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}", "x".repeat(15_000)).into_bytes();
        let mut held = Vec::new();
        for batch in 0..HEADS / 250 {
            let mut client = Http2::begin(Wire::tls(scene.mtls_as(peer, SVIDECAR).await)).await;
            // Allowed once, if it is.
            client.get(1, "/").await;
            for stream in (1..=250).map(|number| number * 2 + 1) {
                let frames = [0, 1, 2, 3].map(|_| Frame::data(stream, false, part.clone()));
                let open = std::iter::once(connect(stream)).chain(frames).collect::<Vec<_>>();
                if client.try_send(&open).await.is_err() {
                    break;
                }
                while let Some(Ok(_)) = client.turn_if_ready().await {}
            }
            // All of it was read: this answer comes after.
            if batch % 4 == 3 {
                let mut other = http1(scene.mtls_as("/other", b"http/1.1").await).await;
                assert_eq!(ask(&mut other, get("/")).await.status, 200);
            }
            held.push(client);
        }
        let grown = scene.server.peak() - before;
        assert!(grown < most, "{peer}: {} MiB", grown / MIB);
    }
}
