//! Bodies of every size and framing, both ways, in one piece and as a stream.

use super::{pattern, scenes, still_serves};
use crate::tools::{message::Framing, wire::End};

const SIZES: [usize; 11] =
    [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577];

/// One body in chunks of different sizes.
fn chunked(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut rest, mut size) = (Vec::new(), bytes, 1);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(size.min(rest.len()));
        out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
        (rest, size) = (behind, size * 3 + 1);
    }
    out.extend(b"0\r\n\r\n");
    out
}

#[tokio::test]
async fn bodies_of_every_size_come_back_whole() {
    for (scene, app) in scenes().await {
        let serving = tokio::spawn(async move {
            let mut served = app.accept().await;
            while let Ok(request) = served.try_request().await {
                let body = request.body.bytes;
                let answer = match request.body.framing {
                    Framing::Chunked => {
                        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(&body)]
                            .concat()
                    }
                    _ => {
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                        [head.into_bytes(), body].concat()
                    }
                };
                served.send(answer).await;
            }
        });
        let mut client = scene.connect().await;
        for size in SIZES {
            let body = pattern(size, size);
            for framing in [Framing::Length(size as u64), Framing::Chunked] {
                let request = match framing {
                    Framing::Chunked => [
                        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                        chunked(&body),
                    ],
                    _ => [
                        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").into_bytes(),
                        body.clone(),
                    ],
                };
                client.send(request.concat()).await;
                let answer = client.response("POST").await;
                assert_eq!(answer.body.framing, framing, "{:?}", scene.door);
                assert!(answer.body.bytes == body, "{:?}: {size} bytes as {framing:?}", scene.door);
            }
        }
        drop((client, scene));
        serving.await.unwrap();
    }
}

/// A chunk is there for the other side before the next one is sent: in requests and in responses, at the same time.
#[tokio::test]
async fn bodies_are_streamed_both_ways() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut served = app.accept().await;
        served.head().await;
        served.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 200, "{:?}", scene.door);
        for word in ["one", "two", "three"] {
            client.send(format!("{:x}\r\n{word}\r\n", word.len())).await;
            assert_eq!(served.chunk().await.unwrap().unwrap(), word.as_bytes(), "{:?}", scene.door);
            served.send(format!("{:x}\r\n{word}\r\n", word.len())).await;
            assert_eq!(client.chunk().await.unwrap().unwrap(), word.as_bytes(), "{:?}", scene.door);
        }
        client.send("0\r\nX-Sum: 6\r\n\r\n").await;
        assert_eq!(served.chunk().await.unwrap(), None);
        assert_eq!(served.trailers().await.unwrap(), [("X-Sum".to_owned(), "6".to_owned())]);
        served.send("0\r\nX-Sum: 7\r\n\r\n").await;
        assert_eq!(client.chunk().await.unwrap(), None);
        assert_eq!(client.trailers().await.unwrap(), [("X-Sum".to_owned(), "7".to_owned())]);
    }
}

/// RFC 9112 §6.3 item 8: a body that ends with the connection. The client can tell the end from a cut.
#[tokio::test]
async fn a_body_that_ends_with_the_connection_comes_whole() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.request().await;
        served.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let head = client.head().await;
        let framing = head.response_framing("GET").unwrap();
        assert!(matches!(framing, Framing::Chunked | Framing::UntilClose), "{:?}: {framing:?}", scene.door);
        let body = pattern(0, 200_000);
        served.send(&body).await;
        drop(served);
        let read = client.try_body(framing).await.unwrap();
        assert!(read.bytes == body, "{:?}: {} bytes", scene.door, read.bytes.len());
        still_serves(&scene, &app).await;
    }
}

/// The same, cut: nobody may take it for the end.
#[tokio::test]
async fn a_body_that_should_end_with_the_connection_and_is_cut_is_not_whole() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.request().await;
        served.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let framing = client.head().await.response_framing("GET").unwrap();
        served.send("hello").await;
        // Without this the reset could overtake the bytes.
        match framing {
            Framing::Chunked => assert_eq!(client.chunk().await.unwrap().unwrap(), b"hello"),
            _ => assert_eq!(client.exactly("the first bytes", 5).await.unwrap(), b"hello"),
        }
        served.reset();
        let (_, end) = client.rest().await;
        assert!(framing == Framing::Chunked || end != End::Closed, "{:?}: {end:?}", scene.door);
        still_serves(&scene, &app).await;
    }
}

/// RFC 9112 §9.3: an answer before the end of the request's body. The client gets it whole, and what follows on its
/// connection is in step, or the connection ends.
#[tokio::test]
async fn an_early_answer_comes_at_once() {
    for (scene, app) in scenes().await {
        for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
        {
            let mut client = scene.connect().await;
            client.send(format!("POST /early HTTP/1.1\r\nHost: a\r\n{framing}")).await;
            let mut served = app.accept().await;
            served.head().await;
            served.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
            let answer = client.response("POST").await;
            assert_eq!(
                (answer.head.status(), answer.body.text()),
                (403, "no".to_owned()),
                "{:?}",
                scene.door
            );

            let rest = if framing.starts_with("Content") { "world" } else { "5\r\nworld\r\n0\r\n\r\n" };
            let next = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
            if client.try_send(format!("{rest}{next}")).await.is_ok()
                && let Ok(answer) = client.try_response("GET").await
            {
                assert_eq!(answer.head.get("x-svidecar-error"), Some("denied_by_rule"), "{:?}", scene.door);
            }
            drop((client, served));
        }
        still_serves(&scene, &app).await;
    }
}

/// An app that answers early and closes at once: its RST must not destroy the answer.
#[tokio::test]
async fn an_early_answer_survives_a_close() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await;
        let mut served = app.accept().await;
        served.head().await;
        let (mut answer, block) = (None, pattern(0, 65_536));
        client.send(&block).await;
        served
            .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
        drop(served);
        // The client sends on until it is stopped, then looks for an answer.
        for _ in 0..64 {
            if client.try_send(&block).await.is_err() {
                break;
            }
        }
        if let Ok(got) = client.try_response("POST").await {
            answer = Some((got.head.status(), got.body.text()));
        }
        assert_eq!(answer, Some((413, "no".to_owned())), "{:?}", scene.door);
        drop(client);
        still_serves(&scene, &app).await;
    }
}
