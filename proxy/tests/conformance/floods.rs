//! Peers that mean harm: floods and bombs on HTTP/2 and HTTP/1. Each ends with the right error, and nobody else notices.
//!
//! How much memory the process takes meanwhile is in `memory`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    support::app,
    tools::{
        http2::{Frame, Http2, Outcome, code, flag, kind, literals, setting},
        scene::{Door, Scene},
        wire::Wire,
    },
};

/// More than any honest peer sends.
const FLOOD: usize = 100_000;

/// Each door, with an app that answers each request with its target and counts them.
async fn scenes() -> Vec<(Scene, Arc<AtomicUsize>)> {
    let mut scenes = Vec::new();
    for door in Door::BOTH {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let address = app::tcp(move |stream| {
            let counter = Arc::clone(&counter);
            async move {
                let mut wire = Wire::plain(stream).unhurried();
                while let Ok(request) = wire.try_request().await {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let target = request.head.target();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                    if wire.try_send(answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        scenes.push((Scene::at(door, address).await, count));
    }
    scenes
}

async fn connect(scene: &Scene) -> Http2 {
    Http2::begin(scene.connect_with(b"h2").await).await
}

/// A neighbour who was there before and is served on, and one who comes now.
async fn all_is_well(scene: &Scene, neighbour: &mut Http2, stream: u32) {
    for client in [neighbour, &mut connect(scene).await] {
        match client.get(stream, "/well").await {
            Outcome::Response(response) => assert_eq!(response.text(), "/well", "{:?}", scene.door),
            other => panic!("{:?}: a neighbour got {other:?}", scene.door),
        }
    }
}

/// Sends the frames that `make` makes, batch by batch, until the proxy ends the connection; with which code?
async fn flood(client: &mut Http2, mut make: impl FnMut(u32) -> Vec<Frame>) -> Option<u32> {
    for number in 0..u32::try_from(FLOOD / 100).unwrap() {
        let frames: Vec<Frame> = (number * 100..(number + 1) * 100).flat_map(&mut make).collect();
        if client.try_send(&frames).await.is_err() {
            break;
        }
        // Whoever floods reads, too: what comes back is taken as soon as it is there.
        while let Some(read) = client.turn_if_ready().await {
            if read.is_err() {
                return client.goaway;
            }
        }
        if client.goaway.is_some() {
            break;
        }
    }
    // A connection that is still there never ends by itself, and the wait for it fails the test.
    client.ended().await;
    client.goaway
}

/// CVE-2023-44487.
#[tokio::test]
async fn rapid_resets() {
    for (scene, count) in scenes().await {
        let (mut neighbour, mut client) = (connect(&scene).await, connect(&scene).await);
        let code = flood(&mut client, |number| {
            let stream = number * 2 + 1;
            vec![Frame::get(stream, "/reset"), Frame::reset(stream, code::CANCEL)]
        })
        .await;
        assert_eq!(code, Some(code::ENHANCE_YOUR_CALM), "{:?}", scene.door);
        let seen = count.load(Ordering::Relaxed);
        assert!(seen < FLOOD / 10, "{:?}: the app saw {seen} requests", scene.door);
        all_is_well(&scene, &mut neighbour, 1).await;
    }
}

/// CVE-2024-27316 and its kin: a field section without end.
#[tokio::test]
async fn continuations() {
    for (scene, count) in scenes().await {
        let mut neighbour = connect(&scene).await;
        for payload in [literals(&[("x-flood", "1")]), Vec::new()] {
            let mut client = connect(&scene).await;
            let head = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/flood")];
            client.send(Frame::new(kind::HEADERS, flag::END_STREAM, 1, literals(&head))).await;
            let code =
                flood(&mut client, |_| vec![Frame::new(kind::CONTINUATION, flag::NONE, 1, payload.clone())])
                    .await;
            assert!(
                matches!(code, Some(code::ENHANCE_YOUR_CALM | code::PROTOCOL_ERROR)),
                "{:?}: {} bytes: {code:?}",
                scene.door,
                payload.len()
            );
        }
        assert_eq!(count.load(Ordering::Relaxed), 0, "{:?}", scene.door);
        all_is_well(&scene, &mut neighbour, 1).await;
    }
}

/// CVE-2019-9518: frames that say nothing, on an open stream.
#[tokio::test]
async fn empty_frames() {
    for (scene, _) in scenes().await {
        let (mut neighbour, mut client) = (connect(&scene).await, connect(&scene).await);
        let head = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/flood")];
        client.send(Frame::headers(1, false, &head)).await;
        let code = flood(&mut client, |_| vec![Frame::data(1, false, [])]).await;
        assert_eq!(code, Some(code::ENHANCE_YOUR_CALM), "{:?}", scene.door);
        all_is_well(&scene, &mut neighbour, 1).await;
    }
}

/// CVE-2019-9512, CVE-2019-9515: questions whose answers nobody reads. They are held back, or they end.
#[tokio::test]
async fn questions_without_readers() {
    let questions = [
        Frame::new(kind::PING, flag::NONE, 0, [0; 8]),
        Frame::settings(&[]),
        Frame::settings(&[(setting::HEADER_TABLE_SIZE, 0), (setting::HEADER_TABLE_SIZE, 4096)]),
    ];
    for (scene, _) in scenes().await {
        let mut neighbour = connect(&scene).await;
        for question in &questions {
            let mut client = connect(&scene).await;
            let batch: Vec<u8> = std::iter::repeat_n(question.bytes(), 1000).flatten().collect();
            let sent = client.wire.send_until_stuck(&batch, std::time::Duration::from_millis(300)).await;
            assert!(sent < 64 << 20, "{:?}: {sent} bytes of {question:?} and no end", scene.door);
        }
        all_is_well(&scene, &mut neighbour, 1).await;
    }
}

/// The same from a peer that reads: it ends, or it is answered, frame by frame, and the connection is well.
#[tokio::test]
async fn questions_with_readers() {
    let questions = [
        Frame::new(kind::PING, flag::NONE, 0, [0; 8]),
        Frame::settings(&[]),
        Frame::window_update(0, 1),
        // PRIORITY, which has no meaning any more (RFC 9113 §5.3.2).
        Frame::new(2, flag::NONE, 3, [0, 0, 0, 1, 0]),
        // A type that nobody knows (RFC 9113 §5.5).
        Frame::new(0xbe, flag::NONE, 0, [0; 100]),
    ];
    for (scene, _) in scenes().await {
        let mut neighbour = connect(&scene).await;
        for question in &questions {
            let mut client = connect(&scene).await;
            let mut alive = true;
            for _ in 0..FLOOD / 1000 {
                alive &= client.try_send(&vec![question.clone(); 100]).await.is_ok();
                while let Some(read) = client.turn_if_ready().await {
                    if read.is_err() {
                        alive = false;
                        break;
                    }
                }
            }
            match if alive { client.get(1, "/after").await } else { client.ended().await } {
                Outcome::Response(response) => assert_eq!(response.text(), "/after", "{:?}", scene.door),
                Outcome::Ended(code) => {
                    assert_eq!(code, Some(code::ENHANCE_YOUR_CALM), "{:?} {question:?}", scene.door);
                }
                Outcome::Reset(code) => panic!("{:?}: reset with {code} after {question:?}", scene.door),
            }
        }
        all_is_well(&scene, &mut neighbour, 1).await;
    }
}

/// CVE-2016-6581: a few bytes that stand for many fields.
#[tokio::test]
async fn hpack_bombs() {
    for (scene, count) in scenes().await {
        let mut neighbour = connect(&scene).await;
        let head = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/bomb")];
        // One entry of 4,000 bytes for the table (0x40: a literal with indexing), then its index (62) 10,000 times.
        let mut entry = literals(&[("x", &"x".repeat(4000))]);
        entry[0] = 0x40;
        let bomb = [literals(&head), entry, vec![0xbe; 10_000]].concat();
        let end = flag::END_HEADERS | flag::END_STREAM;

        let mut client = connect(&scene).await;
        for stream in [1, 3, 5, 7] {
            if client.try_send(&[Frame::new(kind::HEADERS, end, stream, bomb.clone())]).await.is_err() {
                break;
            }
            match client.outcome(stream).await {
                Outcome::Response(response) => assert_eq!(response.status, 431, "{:?}", scene.door),
                Outcome::Reset(code) | Outcome::Ended(Some(code)) => {
                    let right = [code::ENHANCE_YOUR_CALM, code::PROTOCOL_ERROR, code::COMPRESSION_ERROR];
                    assert!(right.contains(&code), "{:?}: {code}", scene.door);
                }
                Outcome::Ended(None) => panic!("{:?}: an end without a reason", scene.door),
            }
            if client.goaway.is_some() {
                break;
            }
        }

        // Integers without end and strings longer than the frame (RFC 7541 §5) are errors of the connection.
        for block in [
            [
                literals(&head),
                vec![0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            ]
            .concat(),
            [literals(&head), vec![0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]]
                .concat(),
            [literals(&head), vec![0x00, 0x01, b'x', 0x7f, 0x80, 0x80, 0x04, b'x']].concat(),
            // An index beyond both tables, the index 0, a table larger than allowed.
            [literals(&head), vec![0xff, 0x80, 0x01]].concat(),
            [literals(&head), vec![0x80]].concat(),
            [vec![0x3f, 0xe1, 0xff, 0x03], literals(&head)].concat(),
            // Huffman that ends in the middle of EOS, or pads with zeros (RFC 7541 §5.2).
            [literals(&head), vec![0x00, 0x01, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]].concat(),
            [literals(&head), vec![0x00, 0x01, b'x', 0x81, 0x00]].concat(),
        ] {
            let mut client = connect(&scene).await;
            client.send(Frame::new(kind::HEADERS, end, 1, block.clone())).await;
            let outcome = client.ended().await;
            assert_eq!(outcome, Outcome::Ended(Some(code::COMPRESSION_ERROR)), "{:?}: {block:?}", scene.door);
        }
        assert_eq!(count.load(Ordering::Relaxed), 0, "{:?}", scene.door);
        all_is_well(&scene, &mut neighbour, 1).await;
    }
}

/// More streams than allowed are refused, not kept; those that run are served.
#[tokio::test]
async fn streams_over_the_limit() {
    for (scene, _) in scenes().await {
        let mut client = connect(&scene).await;
        let head = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/open")];
        let streams: Vec<u32> = (0..2000).map(|number| number * 2 + 1).collect();
        for batch in streams.chunks(100) {
            let frames: Vec<_> = batch.iter().map(|stream| Frame::headers(*stream, false, &head)).collect();
            if client.try_send(&frames).await.is_err() {
                break;
            }
        }
        let last = client.outcome(*streams.last().unwrap()).await;
        let right = matches!(
            last,
            Outcome::Reset(code::REFUSED_STREAM | code::PROTOCOL_ERROR)
                | Outcome::Ended(Some(code::PROTOCOL_ERROR | code::ENHANCE_YOUR_CALM))
        );
        assert!(right, "{:?}: {last:?}", scene.door);
        let mut other = connect(&scene).await;
        all_is_well(&scene, &mut other, 1).await;
    }
}

/// HTTP/1: what may be repeated without end is not.
#[tokio::test]
async fn endless_lines() {
    let chunked = "POST /flood HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (scene, count) in scenes().await {
        for (start, repeated) in [
            ("", "\r\n"),
            (chunked, "1;xxxxxxxx"),
            ("POST /flood HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
            (
                concat!("POST /flood HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n"),
                "x: 1\r\n",
            ),
            (
                concat!("POST /flood HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n"),
                "xxxxxxxx",
            ),
        ] {
            let mut client = scene.connect().await;
            client.send(start).await;
            let batch = repeated.repeat(1000);
            // It ends: nothing that is taken without end would end this loop.
            while client.try_send(&batch).await.is_ok() {}
            if let Ok(answer) = client.try_response("POST").await {
                assert!(
                    [400, 414, 431].contains(&answer.head.status()),
                    "{:?}: {:?}",
                    scene.door,
                    answer.head
                );
            }
        }
        // Extensions on every chunk of one byte: the same, if they are more than a little.
        let mut client = scene.connect().await;
        client.send(chunked).await;
        let batch = format!("1;{}\r\nx\r\n", "x".repeat(4000)).repeat(100);
        let mut sent = 0;
        while sent < 64 << 20 && client.try_send(&batch).await.is_ok() {
            sent += batch.len();
        }
        assert!(sent < 64 << 20, "{:?}: {sent} bytes of extensions", scene.door);
        assert_eq!(count.load(Ordering::Relaxed), 0, "{:?}", scene.door);
    }
}
