//! Answers that do not come: `timeouts.response_headers` and `timeouts.request`.

use crate::{
    edges::still_serves,
    tools::{
        http2::{Frame, Http2, Outcome},
        message::Broken,
        scene::{App, Door, Scene},
    },
};

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_given_in_the_apps_place() {
    for door in Door::BOTH {
        let app = App::listen().await;
        let scene = Scene::with(door, app.address, "timeouts: {response_headers: 200ms}").await;
        let mut client = scene.connect().await;
        client.send("POST /hung HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
        let mut served = app.accept().await;
        served.head().await;
        // The wait begins with the end of the request.
        client.send("hello").await;
        served.exactly("a body", 5).await.unwrap();
        // An answer that is announced is waited for anew.
        served.send("HTTP/1.1 102 Processing\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 102);
        let answer = client.response("POST").await;
        assert_eq!(answer.head.status(), 504, "{door:?}");
        assert_eq!(answer.head.get("x-svidecar-error"), Some("upstream_response_timeout"));
        served.end().await;

        // What has begun may take its time.
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.head().await;
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
        client.head().await;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        served.send("hello").await;
        assert_eq!(client.exactly("a body", 10).await.unwrap(), b"hellohello");
        drop(served);

        // The same by HTTP/2.
        let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
        client.send(Frame::get(1, "/hung")).await;
        let mut served = app.accept().await;
        served.head().await;
        let Outcome::Response(answer) = client.outcome(1).await else { panic!("{door:?}: no answer") };
        assert_eq!(answer.status, 504, "{door:?}");
        still_serves(&scene, &app).await;
    }
}

#[tokio::test]
async fn a_request_ends_when_its_time_is_over() {
    for door in Door::BOTH {
        let app = App::listen().await;
        let scene = Scene::with(door, app.address, "timeouts: {request: 300ms}").await;
        let mut client = scene.connect().await;
        client.send("GET /hung HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.head().await;
        let answer = client.response("GET").await;
        assert_eq!(answer.head.status(), 504, "{door:?}");
        assert_eq!(answer.head.get("x-svidecar-error"), Some("deadline_exceeded"));
        served.end().await;

        let mut client = scene.connect().await;
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.head().await;
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
        let framing = client.head().await.response_framing("GET").unwrap();
        // Cut, so that nobody takes it for the whole.
        let broken = client.try_body(framing).await.unwrap_err();
        assert!(matches!(broken, Broken::Cut(_) | Broken::Reset), "{door:?}: {broken}");
        served.end().await;
        still_serves(&scene, &app).await;
    }
}
