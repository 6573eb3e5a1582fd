//! The regular end of a connection of HTTP/2 (RFC 9113 §6.8): what runs is served to its end, whatever comes meanwhile.

use std::{sync::Arc, time::Duration};

use crate::tools::{
    http2::{Frame, Http2, code, flag, kind, literals},
    scene::{App, Door, Scene},
};

#[tokio::test]
async fn streams_after_the_last_one_harm_nobody() {
    for door in Door::BOTH {
        let app = App::listen().await;
        let scene = Scene::at(door, app.address).await;
        let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
        let head = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/running")];
        client.send(Frame::headers(1, false, &head)).await;
        let mut served = app.accept().await;
        assert_eq!(served.head().await.target(), "/running");

        let shared = Arc::clone(scene.client.as_ref().unwrap_or(&scene.server).proxy.shared());
        let drained = tokio::spawn(async move { shared.drain.run(Duration::from_secs(60)).await });
        // The first says that it goes, the second, after the answer to its PING, which stream is the last.
        let mut said = 0;
        while said < 2 {
            said += usize::from(client.turn().await.unwrap().kind == kind::GOAWAY);
        }
        // A field that stays in the table (0x40: a literal with indexing).
        let mut kept = literals(&[("x-kept", "1")]);
        kept[0] = 0x40;
        let late = [literals(&head), kept].concat();
        let frames = [
            Frame::new(kind::HEADERS, flag::END_HEADERS, 3, late),
            Frame::data(3, false, [0; 10_000]),
            Frame::window_update(3, 1000),
            Frame::headers(3, true, &[("x-late", "1")]),
            Frame::headers(5, false, &head),
            Frame::data(5, false, *b"late"),
            Frame::reset(5, code::CANCEL),
            Frame::get(7, "/late"),
            // What runs goes on, and ends with the field from the table.
            Frame::data(1, false, *b"hello"),
            Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, [0xbe]),
        ];
        client.try_send(&frames).await.unwrap();
        let framing = crate::tools::message::Framing::Chunked;
        let body = served.try_body(framing).await.unwrap();
        assert_eq!(body.text(), "hello", "{door:?}");
        assert_eq!(body.trailers, [("x-kept".to_owned(), "1".to_owned())], "{door:?}");
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.head(1).await.status, 200, "{door:?}");
        client.ended().await;
        assert_eq!(client.goaway, Some(0), "{door:?}");
        assert!(drained.await.unwrap(), "{door:?}");
    }
}
