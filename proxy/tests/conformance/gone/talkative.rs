//! Upstreams that talk too much: interim responses are few, and wait for their reader.

use std::time::Duration;

use crate::{
    edges::{scenes, still_serves},
    support::app,
    tools::{
        http2::{Frame, Http2, Outcome},
        scene::{Door, Scene},
    },
};

/// As many as are passed on.
const MOST: usize = 16;

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";

#[tokio::test]
async fn some_interim_responses_are_passed_on_and_more_are_a_failure() {
    for (scene, app) in scenes().await {
        for (count, status) in [(MOST, 200), (MOST + 1, 502)] {
            let mut client = scene.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut served = app.accept().await;
            served.head().await;
            served.send(HINTS.repeat(count)).await;
            // An app that has said too much may find the connection gone.
            let rest = served.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            assert!(rest.is_ok() || count > MOST, "{:?}", scene.door);
            for _ in 0..MOST {
                assert_eq!(client.head().await.status(), 103, "{:?}", scene.door);
            }
            let answer = client.response("GET").await;
            assert_eq!(answer.head.status(), status, "{:?}", scene.door);
            if status == 502 {
                assert_eq!(answer.head.get("x-svidecar-error"), Some("too_many_interim_responses"));
            }
        }
        still_serves(&scene, &app).await;
    }
}

/// To a client that reads nothing, an app can say only so much.
#[tokio::test]
async fn an_app_that_talks_without_end_is_cut_off() {
    for (scene, app) in scenes().await {
        for http2 in [false, true] {
            let mut served = if http2 {
                let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
                client.send(Frame::get(1, "/talk")).await;
                let mut served = app.accept().await;
                served.head().await;
                let sent =
                    served.send_until_stuck(HINTS.repeat(1000).as_bytes(), Duration::from_secs(20)).await;
                assert!(sent < 64 << 20, "{:?}: {sent} bytes and no end", scene.door);
                let Outcome::Response(answer) = client.outcome(1).await else { panic!("no answer") };
                assert_eq!((answer.interim.len(), answer.status), (MOST, 502), "{:?}", scene.door);
                served
            } else {
                let mut client = scene.connect().await;
                client.send("GET /talk HTTP/1.1\r\nHost: a\r\n\r\n").await;
                let mut served = app.accept().await;
                served.head().await;
                let sent =
                    served.send_until_stuck(HINTS.repeat(1000).as_bytes(), Duration::from_secs(20)).await;
                assert!(sent < 64 << 20, "{:?}: {sent} bytes and no end", scene.door);
                served
            };
            assert!(served.try_send("more").await.is_err(), "{:?}", scene.door);
        }
        still_serves(&scene, &app).await;
    }
}

/// The same for an app that speaks HTTP/2.
#[tokio::test]
async fn interim_responses_of_http2_are_counted_too() {
    let server = app::tcp(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            for _ in 0..100 {
                let hints = http::Response::builder().status(103).body(()).unwrap();
                let _ = respond.send_informational(hints);
            }
            let _ = respond.send_response(http::Response::new(()), true);
        }
    })
    .await;
    for door in Door::BOTH {
        let scene = Scene::with(door, server, "forward_protocol: http2").await;
        let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
        for stream in [1, 3] {
            let Outcome::Response(answer) = client.get(stream, "/talk").await else { panic!("no answer") };
            assert_eq!(answer.status, 502, "{door:?}");
            assert!(answer.interim.len() <= MOST, "{door:?}: {}", answer.interim.len());
        }
    }
}
