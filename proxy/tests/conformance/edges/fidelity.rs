//! What a legacy app can see stays as it was, through one sidecar and through two.

use super::scenes;
use crate::tools::message::Fields;

/// Added on the way in.
const OURS: [&str; 2] = ["x-forwarded-client-cert", "x-spiffe-id"];

fn fields(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
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
            ("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
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
