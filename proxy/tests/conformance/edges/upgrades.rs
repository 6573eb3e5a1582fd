//! A switch of protocols (RFC 9110 §7.8): what follows is bytes.

use super::{answer, scenes, still_serves};
use crate::tools::{
    scene::{App, Scene},
    wire::{End, Wire},
};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Both ends of a tunnel. The app says `hello` right behind its answer.
async fn tunnel(scene: &Scene, app: &App) -> (Wire, Wire) {
    let mut client = scene.connect().await;
    client.send(ASK).await;
    let mut served = app.accept().await;
    let request = served.head().await;
    assert!(request.get("connection").unwrap().to_lowercase().contains("upgrade"), "{request:?}");
    assert_eq!(request.get("upgrade"), Some("websocket"));
    assert!(request.fields.iter().any(|(name, _)| name == "Sec-WebSocket-Key"), "{request:?}");
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    served.send(format!("{switch}hello")).await;
    let answer = client.head().await;
    assert_eq!(answer.status(), 101, "{:?}", scene.door);
    assert_eq!(answer.get("upgrade"), Some("websocket"));
    assert_eq!(answer.get("sec-websocket-accept"), Some("x"));
    assert_eq!(client.exactly("the greeting", 5).await.unwrap(), b"hello");
    (client, served)
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    for (scene, app) in scenes().await {
        let (mut client, mut served) = tunnel(&scene, &app).await;
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(served.exactly("bytes", 18).await.unwrap(), b"GET / HTTP/1.1\r\n\r\n");
        client.send("last").await;
        client.finish().await;
        assert_eq!(served.rest().await, (b"last".to_vec(), End::Closed), "{:?}", scene.door);
        served.send("more").await;
        served.finish().await;
        assert_eq!(client.rest().await, (b"more".to_vec(), End::Closed), "{:?}", scene.door);

        // The app ends first.
        let (mut client, mut served) = tunnel(&scene, &app).await;
        served.finish().await;
        assert_eq!(client.end().await, End::Closed, "{:?}", scene.door);
        client.send("still here").await;
        client.finish().await;
        assert_eq!(served.rest().await, (b"still here".to_vec(), End::Closed), "{:?}", scene.door);
    }
}

#[tokio::test]
async fn a_reset_of_one_end_ends_the_other() {
    for (scene, app) in scenes().await {
        let (client, mut served) = tunnel(&scene, &app).await;
        client.reset();
        served.end().await;
        let (mut client, served) = tunnel(&scene, &app).await;
        served.reset();
        assert_ne!(client.end().await, End::Closed, "{:?}: an abort is not the end of the bytes", scene.door);
        still_serves(&scene, &app).await;
    }
}

/// An app that does not switch answers like any other request, and the connection is not a tunnel.
#[tokio::test]
async fn a_refused_upgrade_leaves_the_connection_as_it_was() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send(ASK).await;
        let mut served = app.accept().await;
        served.head().await;
        served.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno").await;
        assert_eq!(client.response("GET").await.body.text(), "no", "{:?}", scene.door);
        client.send("GET /admin HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(
            client.response("GET").await.head.status(),
            403,
            "{:?}: decided, not tunnelled",
            scene.door
        );
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer(&mut served).await, "/next");
        assert_eq!(client.response("GET").await.body.text(), "/next");
    }
}

/// A request that asks for a switch may have a body of its own (RFC 9110 §7.8).
#[tokio::test]
async fn the_body_of_a_request_that_asks_comes_first() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("POST /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello").await;
        let mut served = app.accept().await;
        assert_eq!(served.request().await.body.text(), "hello", "{:?}", scene.door);
        served.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 101);
        client.send("bytes").await;
        assert_eq!(served.exactly("bytes", 5).await.unwrap(), b"bytes");
    }
}
