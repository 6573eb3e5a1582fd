//! Requests and responses of special form: pipelined, without a body by definition, of old clients, too large.

use super::{answer, answer_all, scenes, still_serves};
use crate::tools::{message::Framing, wire::End};

/// RFC 9112 §9.3.2: answers come in the order of the requests, each to its own.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client
            .send(
                "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
                 POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
                 POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
                 HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n\
                 GET /5 HTTP/1.1\r\nHost: a\r\n\r\n",
            )
            .await;
        let mut served = app.accept().await;
        for expected in ["/1", "/2", "/3"] {
            assert_eq!(answer(&mut served).await, expected, "{:?}", scene.door);
        }
        assert_eq!(served.request().await.head.line, "HEAD /4 HTTP/1.1");
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        assert_eq!(answer(&mut served).await, "/5");
        for expected in ["/1", "/2", "/3"] {
            assert_eq!(client.response("GET").await.body.text(), expected, "{:?}", scene.door);
        }
        assert_eq!(client.response("HEAD").await.head.get("content-length"), Some("1000"));
        assert_eq!(client.response("GET").await.body.text(), "/5");
    }
}

/// Requests that come byte by byte, and several in one segment that is cut anywhere, are the same requests.
#[tokio::test]
async fn the_cuts_between_segments_mean_nothing() {
    for (scene, app) in scenes().await {
        let requests = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n\
                        POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        let mut client = scene.connect().await;
        let sending = async {
            for byte in requests.as_bytes() {
                client.send([*byte]).await;
            }
        };
        let serving = async {
            let mut served = app.accept().await;
            for target in ["/1", "/2"] {
                let request = served.request().await;
                assert_eq!((request.head.target(), request.body.text()), (target, "hello".to_owned()));
                for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n" {
                    served.send([*byte]).await;
                }
            }
        };
        tokio::join!(sending, serving);
        for _ in 0..2 {
            assert_eq!(client.response("POST").await.body.text(), "hello", "{:?}", scene.door);
        }
    }
}

/// RFC 9110 §9.3.2: the fields of an answer to HEAD describe a body that does not come.
#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    for (scene, app) in scenes().await {
        let (mut client, mut served) = (scene.connect().await, None);
        for framing in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n", ""] {
            client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let wire = match &mut served {
                Some(wire) => wire,
                none => none.insert(app.accept().await),
            };
            assert_eq!(wire.request().await.head.method(), "HEAD");
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}X-A: 1\r\n\r\n")).await;
            let answer = client.response("HEAD").await;
            assert_eq!(answer.head.get("x-a"), Some("1"), "{:?}", scene.door);
            let length = framing.starts_with("Content").then_some("1000");
            assert_eq!(answer.head.get("content-length"), length, "{:?} {framing}", scene.door);
        }
        // Both connections are still in step.
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer(&mut served.unwrap()).await, "/next");
        assert_eq!(client.response("GET").await.body.text(), "/next");
    }
}

/// RFC 9110 §15.3.5 and §15.4.5.
#[tokio::test]
async fn a_204_and_a_304_have_no_body() {
    for (scene, app) in scenes().await {
        let (mut client, mut served) = (scene.connect().await, None);
        for (status, fields) in [
            ("204 No Content", ""),
            ("304 Not Modified", "Content-Length: 1000\r\n"),
            ("304 Not Modified", ""),
        ] {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let wire = match &mut served {
                Some(wire) => wire,
                none => none.insert(app.accept().await),
            };
            wire.request().await;
            wire.send(format!("HTTP/1.1 {status}\r\n{fields}ETag: \"x\"\r\n\r\n")).await;
            let answer = client.response("GET").await;
            assert_eq!(answer.head.line, format!("HTTP/1.1 {status}"), "{:?}", scene.door);
            assert_eq!(answer.head.get("etag"), Some("\"x\""));
        }
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer(&mut served.unwrap()).await, "/next");
        assert_eq!(client.response("GET").await.body.text(), "/next");
    }
}

/// RFC 9112 §7.1 and appendix C.2.2: an old client knows no chunks, and says itself that it wants to go on.
#[tokio::test]
async fn an_old_client_gets_no_chunks() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET /old HTTP/1.0\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        assert_eq!(served.request().await.head.target(), "/old");
        served
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
            .await;
        let answer = client.response("GET").await;
        assert_eq!((answer.body.framing, answer.body.text()), (Framing::UntilClose, "hello".to_owned()));

        drop(served);
        answer_all(app);
        let mut client = scene.connect().await;
        for target in ["/1", "/2"] {
            client.send(format!("GET {target} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")).await;
            let answer = client.response("GET").await;
            assert_eq!(answer.body.text(), target);
            assert_eq!(answer.head.get("connection").map(str::to_lowercase).as_deref(), Some("keep-alive"));
        }
    }
}

/// RFC 9112 §9.6: whoever says `close` gets its answer and then the end.
#[tokio::test]
async fn close_means_the_end_behind_the_answer() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client
            .send("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        let mut served = app.accept().await;
        assert_eq!(answer(&mut served).await, "/1");
        let response = client.response("GET").await;
        assert_eq!(response.body.text(), "/1");
        assert_eq!(response.head.get("connection"), Some("close"), "{:?}", scene.door);
        assert_ne!(client.end().await, End::Truncated, "{:?}", scene.door);
    }
}

/// What is larger than the limits is refused with the status for it (RFC 6585 §5, RFC 9110 §15.5.15), and read no further.
#[tokio::test]
async fn heads_over_the_limits_are_refused() {
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let cases = [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(100_000)), &[431][..]),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), &[431]),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100_000)), &[414, 431]),
        // One that never ends.
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX-Large: {}", "x".repeat(1_000_000)), &[431]),
    ];
    for (scene, app) in scenes().await {
        for (request, expected) in &cases {
            let mut client = scene.connect().await;
            let _ = client.try_send(request).await;
            let answer = client.response("GET").await;
            let status = answer.head.status();
            assert!(expected.contains(&status), "{:?}: {status} to {:?}…", scene.door, request.get(..40));
            client.end().await;
        }
        still_serves(&scene, &app).await;
    }
}

/// Whoever says what is no HTTP gets no answer in HTTP, but the operator learns why (RFC 9113 §3.4 wants it so for a broken
/// preface). A misspelt request still gets its answer.
#[tokio::test]
async fn what_is_not_http_gets_no_answer_in_http() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / http/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response("GET").await.head.status(), 400, "{:?}", scene.door);
        let mut client = scene.connect().await;
        client.send("INVALID CONNECTION PREFACE\r\n\r\n").await;
        assert_eq!(client.end().await, End::Closed, "{:?}", scene.door);
        still_serves(&scene, &app).await;

        let sidecar = scene.client.as_ref().unwrap_or(&scene.server);
        sidecar.until_counted("status=\"none\",code=\"bad_request\"").await;
        let lines = sidecar.access_log();
        let silent = lines.iter().find(|line| line["code"] == "bad_request" && line.get("status").is_none());
        let detail = silent.expect("a line")["detail"].as_str().unwrap();
        assert!(detail.contains("does not end in a version of HTTP"), "{detail}");
    }
}

/// A head or trailers of an app that never end are not collected without bound.
#[tokio::test]
async fn heads_of_apps_over_the_limits_are_bad_gateways() {
    for (scene, app) in scenes().await {
        for line in
            ["X-Large: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", "X: 1\r\n", "x"]
        {
            let mut client = scene.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut served = app.accept().await;
            served.request().await;
            let head = format!("HTTP/1.1 200 OK\r\n{}", line.repeat(200_000 / line.len()));
            let _ = served.try_send(head).await;
            assert_eq!(client.response("GET").await.head.status(), 502, "{:?}", scene.door);
        }
        still_serves(&scene, &app).await;
    }
}

/// RFC 9110 §9.2.2: a request that may not be repeated goes out once, even when the connection died under it.
#[tokio::test]
async fn a_post_is_never_sent_twice() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        answer(&mut served).await;
        client.response("GET").await;
        client.send("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(served.request().await.head.target(), "/2");
        drop(served);
        assert_eq!(client.response("POST").await.head.status(), 502, "{:?}", scene.door);
        // The next thing that the app sees is the next request.
        still_serves(&scene, &app).await;
    }
}
