//! Responses before the response (RFC 9110 §15.2), and leave to send a body (§10.1.1).

use super::{scenes, still_serves};

#[tokio::test]
async fn interim_responses_come_through_at_once() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.request().await;
        served.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n").await;
        let hints = client.head().await;
        assert_eq!(hints.line, "HTTP/1.1 103 Early Hints", "{:?}", scene.door);
        assert_eq!(hints.get("link"), Some("</style.css>; rel=preload"));
        served.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </2>\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 102);
        assert_eq!(client.head().await.get("link"), Some("</2>"));
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(client.response("GET").await.body.text(), "hello");
    }
}

/// An old client does not know them.
#[tokio::test]
async fn an_old_client_gets_no_interim_response() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.request().await;
        served
            .send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            .await;
        assert_eq!(client.head().await.status(), 200, "{:?}", scene.door);
    }
}

/// An app that sends interim responses without end is no reason to wait without end.
#[tokio::test]
async fn the_app_decides_whether_a_body_may_come() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        client.send(head).await;
        let mut served = app.accept().await;
        let request = served.head().await;
        assert_eq!(request.get("expect"), Some("100-continue"), "{:?}", scene.door);
        served.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 100, "{:?}", scene.door);
        client.send("hello").await;
        let body = served.try_body(request.request_framing().unwrap()).await.unwrap();
        assert_eq!(body.text(), "hello");
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.response("POST").await.body.text(), "ok");
    }
}

#[tokio::test]
async fn the_app_refuses_a_body_that_it_does_not_want() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        client.send(head).await;
        let mut served = app.accept().await;
        served.head().await;
        served
            .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
        let answer = client.response("POST").await;
        assert_eq!(answer.head.status(), 413, "{:?}", scene.door);
        assert_eq!(answer.body.text(), "no");
        drop((client, served));
        still_serves(&scene, &app).await;
    }
}

/// A client that does not wait for leave, as it may (RFC 9110 §10.1.1).
#[tokio::test]
async fn a_client_need_not_wait_for_leave() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
            .await;
        let mut served = app.accept().await;
        assert_eq!(served.request().await.body.text(), "hello");
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let head = client.final_head().await;
        assert_eq!(head.status(), 200);
    }
}

/// What the proxy refuses itself, it refuses without asking for the body.
#[tokio::test]
async fn a_denied_request_gets_no_leave() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client
            .send("POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\nExpect: 100-continue\r\n\r\n")
            .await;
        assert_eq!(client.head().await.status(), 403, "{:?}", scene.door);
        still_serves(&scene, &app).await;
    }
}

/// The body of a denied request is no request.
#[tokio::test]
async fn the_body_of_a_denied_request_is_not_the_next_request() {
    for (scene, app) in scenes().await {
        for framing in ["Content-Length: 35\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n23\r\n"] {
            let mut client = scene.connect().await;
            let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            let end = if framing.starts_with("Content") { "" } else { "\r\n0\r\n\r\n" };
            let next = "GET /admin/2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let _ = client
                .try_send(format!("POST /admin HTTP/1.1\r\nHost: a\r\n{framing}{body}{end}{next}"))
                .await;
            assert_eq!(client.response("POST").await.head.status(), 403, "{:?}", scene.door);
            // Either the connection goes on behind the body, or it ends.
            if let Ok(answer) = client.try_response("GET").await {
                assert_eq!(answer.head.status(), 403, "{:?}", scene.door);
            }
        }
        still_serves(&scene, &app).await;
    }
}
