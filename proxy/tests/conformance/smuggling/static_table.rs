//! The static table of HPACK (RFC 7541 Appendix A): an index alone is a whole field, and no other field than if it were spelled out.

use crate::{
    edges::scenes,
    tools::http2::{Frame, Http2, Outcome, code, flag, kind, literals},
};

/// The pseudo-header fields are the entries 1 to 14.
const PSEUDO: u8 = 14;

/// The names of the entries from 15 on. One of them has a value.
#[rustfmt::skip]
const REGULAR: [&str; 47] = [
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// What must not be there, or not without a value.
const MALFORMED: [&str; 3] = ["content-length", "host", "transfer-encoding"];

#[tokio::test]
async fn an_index_is_the_field_that_it_stands_for() {
    for (scene, app) in scenes().await {
        let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
        let mut served = None;
        for index in 1..=PSEUDO + u8::try_from(REGULAR.len()).unwrap() {
            let stream = u32::from(index) * 2 - 1;
            let path = format!("/{index}");
            let head = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", &path)];
            let mut block = literals(&head);
            // An indexed field (RFC 7541 §6.1).
            block.push(0x80 | index);
            client.send(Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, block)).await;
            let name = index.checked_sub(PSEUDO + 1).map(|at| REGULAR[usize::from(at)]);
            let Some(name) = name.filter(|name| !MALFORMED.contains(name)) else {
                let outcome = client.outcome(stream).await;
                assert_eq!(
                    outcome,
                    Outcome::Reset(code::PROTOCOL_ERROR),
                    "{:?}: {index} {name:?}",
                    scene.door
                );
                continue;
            };
            let wire = match &mut served {
                Some(wire) => wire,
                none => none.insert(app.accept().await),
            };
            let request = wire.request().await;
            assert_eq!(request.head.target(), path, "{:?}", scene.door);
            let value = if name == "accept-encoding" { "gzip, deflate" } else { "" };
            assert_eq!(request.head.get(name), Some(value), "{:?}: {index} {name}", scene.door);
            wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            let Outcome::Response(answer) = client.outcome(stream).await else { panic!("{index} {name}") };
            assert_eq!(answer.status, 204, "{:?}: {index} {name}", scene.door);
        }
    }
}
