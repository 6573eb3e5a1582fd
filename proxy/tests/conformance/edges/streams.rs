//! The same edges for a client that speaks HTTP/2, in front of an app that speaks HTTP/1.1.

use super::{answer, answer_all, pattern, scenes, serve_on, still_serves, target_back};
use crate::{
    support::app,
    tools::{
        http2::{Frame, Http2, Outcome, Response, code, setting},
        scene::{App, Door, Scene},
    },
};

async fn connect(scene: &Scene) -> Http2 {
    Http2::begin(scene.connect_with(b"h2").await).await
}

fn response(outcome: Outcome) -> Response {
    match outcome {
        Outcome::Response(response) => response,
        other => panic!("no response: {other:?}"),
    }
}

fn post(stream: u32) -> Frame {
    let fields = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    Frame::headers(stream, false, &fields)
}

#[tokio::test]
async fn streams_run_side_by_side() {
    for (scene, app) in scenes().await {
        let mut client = connect(&scene).await;
        client.try_send(&[Frame::get(1, "/1"), Frame::get(3, "/3")]).await.unwrap();
        let (mut first, mut second) = (app.accept().await, app.accept().await);
        // The one that asked last is answered first.
        if first.request().await.head.target() == "/1" {
            std::mem::swap(&mut first, &mut second);
            assert_eq!(first.request().await.head.target(), "/3");
        } else {
            assert_eq!(second.request().await.head.target(), "/1");
        }
        first.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3").await;
        assert_eq!(response(client.outcome(3).await).text(), "3", "{:?}", scene.door);
        second.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await;
        assert_eq!(response(client.outcome(1).await).text(), "1", "{:?}", scene.door);
    }
}

#[tokio::test]
async fn interim_responses_and_trailers_are_carried() {
    for (scene, app) in scenes().await {
        let mut client = connect(&scene).await;
        let frames = [post(1), Frame::data(1, false, *b"hello"), Frame::headers(1, true, &[("x-sum", "1")])];
        client.try_send(&frames).await.unwrap();
        let mut served = app.accept().await;
        let request = served.request().await;
        assert_eq!(request.body.trailers, [("x-sum".to_owned(), "1".to_owned())], "{:?}", scene.door);
        served
            .send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                 HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nX-Case: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n\
                 5\r\nhello\r\n0\r\nX-Sum: 2\r\n\r\n",
            )
            .await;
        let answer = response(client.outcome(1).await);
        assert_eq!(answer.interim, [103], "{:?}", scene.door);
        assert_eq!((answer.status, answer.text()), (200, "hello".to_owned()));
        assert_eq!(answer.fields, [("x-case".to_owned(), "1".to_owned())]);
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "2".to_owned())]);
    }
}

#[tokio::test]
async fn answers_without_a_body_end_their_stream() {
    for (scene, app) in scenes().await {
        let mut client = connect(&scene).await;
        let head = [(":method", "HEAD"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
        client.send(Frame::headers(1, true, &head)).await;
        let mut served = app.accept().await;
        assert_eq!(served.request().await.head.method(), "HEAD");
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        let answer = response(client.outcome(1).await);
        assert!(
            answer.fields.contains(&("content-length".to_owned(), "1000".to_owned())),
            "{:?}",
            scene.door
        );
        assert!(answer.body.is_empty());
        for (stream, status) in [(3, 204), (5, 304)] {
            client.send(Frame::get(stream, "/")).await;
            served.request().await;
            served.send(format!("HTTP/1.1 {status} X\r\n\r\n")).await;
            let answer = response(client.outcome(stream).await);
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{:?}", scene.door);
        }
        client.send(Frame::get(7, "/next")).await;
        super::answer(&mut served).await;
        assert_eq!(response(client.outcome(7).await).text(), "/next");
    }
}

#[tokio::test]
async fn bodies_of_every_size_come_back_whole() {
    for (scene, app) in scenes().await {
        let serving = tokio::spawn(async move {
            let mut served = app.accept().await;
            while let Ok(request) = served.try_request().await {
                let body = request.body.bytes;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                served.send([head.into_bytes(), body].concat()).await;
            }
        });
        let mut client = connect(&scene).await;
        for (stream, size) in (0..).map(|number| number * 2 + 1).zip([0, 1, 16_383, 16_384, 16_385, 60_000]) {
            let body = pattern(size, size);
            let mut frames = vec![post(stream)];
            frames.extend(body.chunks(16_384).map(|part| Frame::data(stream, false, part)));
            frames.push(Frame::data(stream, true, []));
            client.try_send(&frames).await.unwrap();
            let answer = response(client.outcome(stream).await);
            assert!(answer.body == body, "{:?}: {size} bytes", scene.door);
            // As much as was used, so that the next one fits into the connection's window of 64 KiB.
            while client.window < 60_000 {
                client.turn().await.unwrap();
            }
        }
        drop((client, scene));
        serving.await.unwrap();
    }
}

/// RFC 9113 §8.1: an answer before the end of the request; then the rest of the request is not wanted.
#[tokio::test]
async fn an_early_answer_comes_at_once() {
    for (scene, app) in scenes().await {
        let mut client = connect(&scene).await;
        client.try_send(&[post(1), Frame::data(1, false, *b"hello")]).await.unwrap();
        let mut served = app.accept().await;
        served.head().await;
        served.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        let answer = response(client.outcome(1).await);
        assert_eq!((answer.status, answer.text()), (403, "no".to_owned()), "{:?}", scene.door);
        drop(served);
        client.send(Frame::get(3, "/admin")).await;
        assert_eq!(response(client.outcome(3).await).status, 403);
        drop(client);
        still_serves(&scene, &app).await;
    }
}

#[tokio::test]
async fn a_reset_of_a_stream_reaches_the_app() {
    for (scene, app) in scenes().await {
        let mut client = connect(&scene).await;
        // In the request, before the response, in the response.
        client.try_send(&[post(1), Frame::data(1, false, *b"hello")]).await.unwrap();
        let mut served = app.accept().await;
        let framing = served.head().await.request_framing().unwrap();
        client.send(Frame::reset(1, code::CANCEL)).await;
        served.try_body(framing).await.unwrap_err();

        client.send(Frame::get(3, "/")).await;
        let mut served = app.accept().await;
        served.request().await;
        client.send(Frame::reset(3, code::CANCEL)).await;
        served.end().await;

        client.send(Frame::get(5, "/")).await;
        let mut served = app.accept().await;
        served.request().await;
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello").await;
        assert_eq!(client.head(5).await.status, 200, "{:?}", scene.door);
        client.send(Frame::reset(5, code::CANCEL)).await;
        let block = vec![0; 65_536];
        while served.try_send(&block).await.is_ok() {}

        // The connection itself is well.
        client.send(Frame::get(7, "/next")).await;
        answer(&mut app.accept().await).await;
        assert_eq!(response(client.outcome(7).await).text(), "/next", "{:?}", scene.door);
    }
}

#[tokio::test]
async fn an_app_that_resets_resets_its_stream_alone() {
    for (scene, app) in scenes().await {
        let mut client = connect(&scene).await;
        client.send(Frame::get(1, "/")).await;
        let mut served = app.accept().await;
        served.request().await;
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
        assert_eq!(client.head(1).await.status, 200);
        served.reset();
        assert!(matches!(client.outcome(1).await, Outcome::Reset(_)), "{:?}", scene.door);

        client.try_send(&[post(3), Frame::data(3, false, *b"hello")]).await.unwrap();
        let mut served = app.accept().await;
        served.head().await;
        served.reset();
        assert_eq!(response(client.outcome(3).await).status, 502, "{:?}", scene.door);
        client.send(Frame::get(5, "/next")).await;
        answer(&mut app.accept().await).await;
        assert_eq!(response(client.outcome(5).await).text(), "/next", "{:?}", scene.door);
    }
}

/// A stream whose client opens no window stalls alone; the others go on, and it goes on when the window opens.
#[tokio::test]
async fn a_stream_without_a_window_stalls_alone() {
    for (scene, app) in scenes().await {
        let wire = scene.connect_with(b"h2").await;
        let mut client = Http2::begin_with(wire, &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        client.opens_windows = false;
        client.send(Frame::get(1, "/slow")).await;
        let mut slow = app.accept().await;
        slow.request().await;
        let body = pattern(0, 30_000);
        slow.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        slow.send(&body).await;
        assert_eq!(client.head(1).await.status, 200);
        // The proxy may have taken all of it, and use the app's connection again.
        serve_on(slow, target_back);
        answer_all(app);
        for stream in [3, 5, 7] {
            client.try_send(&[Frame::get(stream, "/fast"), Frame::window_update(stream, 100)]).await.unwrap();
            assert_eq!(response(client.outcome(stream).await).text(), "/fast", "{:?}", scene.door);
        }
        let before = client.received;
        client.send(Frame::window_update(1, 10)).await;
        while client.received < before + 10 {
            client.turn().await.unwrap();
        }
        assert_eq!(client.received, before + 10, "{:?}: no byte more than the window", scene.door);
        client.send(Frame::window_update(1, 100_000)).await;
        assert!(response(client.outcome(1).await).body == body, "{:?}", scene.door);
    }
}

/// A server that resets a call of gRPC says by the code which status it has; to others we say what happened.
#[tokio::test]
async fn the_code_of_a_reset_reaches_who_understands_it() {
    let server = app::tcp(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if request.uri().path() == "/later" {
                let head = http::Response::new(());
                respond.send_response(head, false).unwrap().send_reset(h2::Reason::ENHANCE_YOUR_CALM);
            } else {
                respond.send_reset(h2::Reason::CANCEL);
            }
        }
    });
    let server = server.await;
    for door in Door::BOTH {
        let scene = Scene::with(door, server, "forward_protocol: http2").await;
        let mut client = connect(&scene).await;
        for (stream, path, kind, expected) in [
            (1, "/", "application/grpc", Err(0x8)),
            (3, "/later", "application/grpc", Err(0xb)),
            (5, "/", "text/plain", Ok(502)),
        ] {
            let fields = [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", "a"),
                (":path", path),
                ("content-type", kind),
            ];
            client.try_send(&[Frame::headers(stream, true, &fields)]).await.unwrap();
            let outcome = match client.outcome(stream).await {
                Outcome::Response(response) => Ok(response.status),
                Outcome::Reset(code) => Err(code),
                other => panic!("{other:?}"),
            };
            assert_eq!(outcome, expected, "{door:?} {path} {kind}");
        }
    }
}

/// A peer whose root has left the bundle begins nothing more, though it does not heed that its connection ends.
#[tokio::test]
async fn a_peer_that_lost_its_root_opens_no_stream() {
    let app = App::listen().await;
    let scene = Scene::at(Door::Inbound, app.address).await;
    let mut client = Http2::begin(scene.connect_with(b"svidecar/1").await).await;
    answer_all(app);
    assert_eq!(response(client.get(1, "/first").await).text(), "/first");
    scene.replace_root().await;
    let tunnel = [
        (":method", "CONNECT"),
        (":protocol", "http/1.1"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "a"),
    ];
    client.try_send(&[Frame::get(3, "/"), Frame::headers(5, false, &tunnel)]).await.unwrap();
    for stream in [3, 5] {
        let head = client.head(stream).await;
        assert_eq!(head.status, 403);
        assert!(
            head.fields.contains(&("x-svidecar-error".to_owned(), "no_longer_allowed".to_owned())),
            "{head:?}"
        );
    }
}
