//! What a legacy app can see stays as it was, through one sidecar and through two.

use super::scenes;
use crate::tools::message::Fields;

/// Added on the way in.
const OURS: [&str; 2] = ["x-forwarded-client-cert", "x-spiffe-id"];

fn fields(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Case, order and repetition of the fields of both messages, and the reason phrase.
#[tokio::test]
async fn fields_keep_their_case_and_order() {
    for (scene, app) in scenes().await {
        let sent = [
            ("hOsT", "a"),
            ("X-Zeta", "1"),
            ("aCCept", "*/*"),
            ("x-zeta", "2"),
            ("User-agent", "old/1.0 (odd)"),
            ("X_Under", "kept"),
            ("Cookie", "a=1"),
            ("X-ZETA", "3"),
            ("Cookie", "b=2"),
            ("X-Empty", ""),
        ];
        let lines: String = sent.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut client = scene.connect().await;
        client.send(format!("GET /a?b HTTP/1.1\r\n{lines}\r\n")).await;
        let mut served = app.accept().await;
        let mut request = served.request().await.head;
        request.fields.retain(|(name, _)| !OURS.contains(&name.to_lowercase().as_str()));
        assert_eq!(request.fields, fields(&sent), "{:?}", scene.door);

        let sent = [
            ("sErver", "old"),
            ("Set-Cookie", "a=1"),
            ("DATE", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("SET-cookie", "b=2"),
            ("ETag", "W/\"x\""),
            ("Content-length", "2"),
            ("X-Last", "1"),
        ];
        let lines: String = sent.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        served.send(format!("HTTP/1.1 203 Quite All Right\r\n{lines}\r\nok")).await;
        let answer = client.response("GET").await.head;
        assert_eq!(answer.line, "HTTP/1.1 203 Quite All Right", "{:?}", scene.door);
        assert_eq!(answer.fields, fields(&sent), "{:?}", scene.door);
    }
}

/// Nothing is added to an answer that the app did not say: no Date, no Server, no Via.
#[tokio::test]
async fn nothing_is_added_to_an_answer() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = app.accept().await;
        let request = served.request().await.head;
        let names: Vec<_> = request.fields.iter().map(|(name, _)| name.to_lowercase()).collect();
        assert_eq!(names, ["host", OURS[0], OURS[1]], "{:?}", scene.door);
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(
            client.response("GET").await.head.fields,
            fields(&[("Content-Length", "0")]),
            "{:?}",
            scene.door
        );
    }
}

/// Chunks that an app cuts stay as it cut them, and trailers come behind them, in their case and order.
#[tokio::test]
async fn chunks_and_trailers_stay() {
    for (scene, app) in scenes().await {
        let body =
            "1\r\na\r\n3\r\nbcd\r\nb\r\nefghijklmno\r\n0\r\nX-Sum: 1\r\nx-OTHER: 2\r\nX-Sum: 3\r\n\r\n";
        let trailers = fields(&[("X-Sum", "1"), ("x-OTHER", "2"), ("X-Sum", "3")]);
        let framing = "Trailer: X-Sum, x-OTHER\r\nTransfer-Encoding: chunked\r\n";
        let mut client = scene.connect().await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n{framing}\r\n{body}"
            ))
            .await;
        let mut served = app.accept().await;
        let request = served.request().await;
        assert_eq!(request.head.get("trailer"), Some("X-Sum, x-OTHER"), "{:?}", scene.door);
        assert_eq!(request.body.text(), "abcdefghijklmno", "{:?}", scene.door);
        assert_eq!(request.body.chunks, [1, 3, 11], "{:?}", scene.door);
        assert_eq!(request.body.trailers, trailers, "{:?}", scene.door);
        let names: Vec<_> = request.head.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..4], ["Host", "TE", "Trailer", "Transfer-Encoding"], "{:?}", scene.door);
        served.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}")).await;
        let answer = client.response("POST").await;
        assert_eq!(answer.body.chunks, [1, 3, 11], "{:?}", scene.door);
        assert_eq!(answer.body.trailers, trailers, "{:?}", scene.door);
    }
}

/// A framing stays what it was: no length becomes chunks, no chunks become a length, and a POST without a body does not
/// get one.
#[tokio::test]
async fn framings_stay() {
    for (scene, app) in scenes().await {
        let mut client = scene.connect().await;
        let mut served = None;
        for (framing, body) in [
            ("", ""),
            ("Content-Length: 0\r\n", ""),
            ("Content-Length: 2\r\n", "ok"),
            ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("transfer-ENCODING: Chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        ] {
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n{body}")).await;
            let wire = match &mut served {
                Some(wire) => wire,
                none => none.insert(app.accept().await),
            };
            let request = wire.request().await;
            let seen: String = request
                .head
                .fields
                .iter()
                .filter(|(name, _)| {
                    ["content-length", "transfer-encoding"].contains(&name.to_lowercase().as_str())
                })
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            assert_eq!(seen, framing, "{:?}", scene.door);
            let framing = if framing.is_empty() { "Content-Length: 0\r\n" } else { framing };
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}")).await;
            let answer = client.response("POST").await;
            assert_eq!(format!("{}: {}\r\n", answer.head.fields[0].0, answer.head.fields[0].1), framing);
        }
    }
}
