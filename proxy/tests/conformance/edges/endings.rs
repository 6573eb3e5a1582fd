//! Connections that end where they should not, in all four places; and those that half-end.

use super::{answer, scenes, still_serves};
use crate::tools::message::Broken;

/// A client that has sent its request and will send no more cannot be told from one that gave up: the app is not troubled any
/// longer. More of this is in `gone`.
#[tokio::test]
async fn a_client_that_half_closes_is_gone() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
        let mut served = app.accept().await;
        assert_eq!(served.request().await.head.target(), "/half", "{:?}", scene.door);
        client.finish().await;
        served.end().await;
        client.end().await;
        still_serves(&scene, &app).await;
    }
}

/// An app that half-closes behind its answer, and one that half-closes with a request in its ears.
#[tokio::test]
async fn an_app_that_half_closes_has_answered() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        answer(&mut served).await;
        served.finish().await;
        assert_eq!(client.response("GET").await.body.text(), "/1", "{:?}", scene.door);
        // The proxy closes its half, too, and takes another connection for what follows.
        served.end().await;
        client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        answer(&mut app.accept().await).await;
        assert_eq!(client.response("GET").await.body.text(), "/2", "{:?}", scene.door);
    }
}

/// Of the request, by the client: the app never sees a whole request.
#[tokio::test]
async fn a_client_that_resets_in_its_request() {
    for (scene, app) in scenes().await {
        for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
        {
            let mut client = scene.connect().await;
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
            let mut served = app.accept().await;
            let head = served.head().await;
            client.reset();
            let broken = served.try_body(head.request_framing().unwrap()).await.unwrap_err();
            assert!(matches!(broken, Broken::Cut(_) | Broken::Reset), "{:?}: {broken}", scene.door);
        }
        still_serves(&scene, &app).await;
    }
}

/// The same with a FIN: an end is not the end of a body that is not at its end.
#[tokio::test]
async fn a_client_that_closes_in_its_request() {
    for (scene, app) in scenes().await {
        for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
        {
            let mut client = scene.connect().await;
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
            let mut served = app.accept().await;
            let head = served.head().await;
            client.finish().await;
            let broken = served.try_body(head.request_framing().unwrap()).await.unwrap_err();
            assert!(matches!(broken, Broken::Cut(_) | Broken::Reset), "{:?}: {broken}", scene.door);
        }
        still_serves(&scene, &app).await;
    }
}

/// Of the response, by the client: the app learns that nobody reads any more.
#[tokio::test]
async fn a_client_that_resets_in_its_response() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.request().await;
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello").await;
        assert_eq!(client.head().await.status(), 200);
        client.reset();
        // Either the app sees the end, or it cannot send on.
        let block = vec![0; 65_536];
        while served.try_send(&block).await.is_ok() {}
        still_serves(&scene, &app).await;
    }
}

/// A client that goes away while the app thinks: the app learns it without sending anything.
#[tokio::test]
async fn a_client_that_resets_before_its_response() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.request().await;
        client.reset();
        served.end().await;
        still_serves(&scene, &app).await;
    }
}

/// Of the request, by the app: the client gets a 502, or at least an end.
#[tokio::test]
async fn an_app_that_resets_in_the_request() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
        let mut served = app.accept().await;
        served.head().await;
        served.reset();
        let answer = client.response("POST").await;
        assert_eq!(answer.head.status(), 502, "{:?}", scene.door);
        let code = answer.head.get("x-svidecar-error").unwrap();
        assert!(code.starts_with("upstream_"), "{:?}: {code}", scene.door);
        drop(client);
        still_serves(&scene, &app).await;
    }
}

/// Of the response, by the app: the client can tell that it was cut, and the proxy says nothing in its place.
#[tokio::test]
async fn an_app_that_resets_in_the_response() {
    for (scene, app) in scenes().await {
        for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
        {
            let mut client = scene.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut served = app.accept().await;
            served.request().await;
            served.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
            let head = client.head().await;
            served.reset();
            let broken = client.try_body(head.response_framing("GET").unwrap()).await.unwrap_err();
            assert!(matches!(broken, Broken::Cut(_) | Broken::Reset), "{:?}: {broken}", scene.door);
        }
        still_serves(&scene, &app).await;
    }
}
