//! Back-pressure: what one side does not read, the other side cannot send. How much memory the process takes
//! meanwhile, the end-to-end tests measure.

use std::time::Duration;

use super::{pattern, scenes, serve_all, still_serves};

/// More than all socket buffers on the way hold together, and far less than a test machine has.
const BOUND: usize = 64 << 20;

/// How long nothing must move for a sender to count as held back. A slow machine can only make the test lenient.
const STUCK: Duration = Duration::from_millis(300);

/// A client that does not read holds its app back, and nobody else's; when it reads on, nothing is missing.
#[tokio::test]
async fn a_slow_reader_holds_its_app_back() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        served.request().await;
        served.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        let (taken, block) = (std::sync::atomic::AtomicUsize::new(0), pattern(0, 1 << 16));
        let sent = served.send_until_stuck(&block, STUCK).await;
        assert!(sent < BOUND, "{:?}: {sent} bytes and no end", scene.door);
        still_serves(&scene, &app).await;

        let sending = async {
            served.send(&block[sent % block.len()..]).await;
            served.send(b"the end").await;
            taken.store(sent + block.len() - sent % block.len(), std::sync::atomic::Ordering::Relaxed);
            drop(served);
        };
        let reading = async {
            let framing = client.head().await.response_framing("GET").unwrap();
            client.try_body(framing).await.unwrap().bytes
        };
        let ((), bytes) = tokio::join!(sending, reading);
        let taken = taken.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(bytes.len(), taken + 7, "{:?}", scene.door);
        assert!(
            bytes.ends_with(b"the end")
                && bytes.chunks(block.len()).take(taken / block.len()).all(|chunk| chunk == block)
        );
    }
}

/// An app that does not read holds its client back.
#[tokio::test]
async fn a_slow_app_holds_its_client_back() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", BOUND * 2)).await;
        let mut served = app.accept().await;
        let framing = served.head().await.request_framing().unwrap();
        let block = pattern(0, 1 << 16);
        let sent = client.send_until_stuck(&block, STUCK).await;
        assert!(sent < BOUND, "{:?}: {sent} bytes and no end", scene.door);
        still_serves(&scene, &app).await;

        let sending = async {
            client.send(&block[sent % block.len()..]).await;
            for _ in 0..(BOUND * 2 - sent) / block.len() {
                client.send(&block).await;
            }
        };
        let (bytes, ()) = tokio::join!(async { served.try_body(framing).await.unwrap().bytes }, sending);
        assert!(bytes.chunks(block.len()).all(|chunk| chunk == block), "{:?}", scene.door);
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.response("POST").await.body.text(), "ok");
    }
}

/// A client that sends requests and reads no answer is not served without end.
#[tokio::test]
async fn a_client_that_only_asks_is_held_back() {
    for (scene, app) in scenes().await {
        let answer =
            [b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n".to_vec(), pattern(0, 10_000)].concat();
        serve_all(app, move |_| answer.clone());
        let mut client = scene.connect().await;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = client.send_until_stuck(request, STUCK).await;
        assert!(sent < BOUND, "{:?}: {sent} bytes of requests and no end", scene.door);
        // The answers to what was taken whole are all there.
        for _ in 0..100 {
            assert_eq!(client.response("GET").await.body.bytes.len(), 10_000, "{:?}", scene.door);
        }
    }
}
