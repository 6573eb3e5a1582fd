//! The other way: what an app answers has one meaning for the proxy and for the client, and an answer that nobody asked
//! for is nobody's.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use crate::{
    support::app,
    tools::{
        message::{Broken, Fields, Message},
        scene::{Door, Scene},
        wire::Wire,
    },
};

/// One thing that an app answers to `GET`.
struct Case {
    name: &'static str,
    sends: &'static [u8],
    /// Whether the app closes behind it.
    closes: bool,
    outcome: Outcome,
}

/// What the client gets. Whatever it is, the request that follows gets the answer of its own.
#[derive(Clone, Copy)]
enum Outcome {
    /// Exactly this.
    Passes(Got),
    /// An answer of the proxy itself.
    BadGateway,
    /// The RFCs leave the choice between a 502 and this.
    BadGatewayOr(Got),
    /// The client can tell that it was cut: a head and no whole body, or a 502 if the head had not gone on yet.
    Cut,
}

#[derive(Clone, Copy)]
struct Got {
    status: u16,
    /// All fields but those that frame the body, with names in lower case.
    fields: &'static [(&'static str, &'static str)],
    body: &'static str,
    trailers: &'static [(&'static str, &'static str)],
}

impl Got {
    const fn body(body: &'static str) -> Self {
        Self { status: 200, fields: &[], body, trailers: &[] }
    }

    const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    const fn fields(self, fields: &'static [(&'static str, &'static str)]) -> Self {
        Self { fields, ..self }
    }

    const fn trailers(self, trailers: &'static [(&'static str, &'static str)]) -> Self {
        Self { trailers, ..self }
    }
}

use Outcome::{BadGateway, BadGatewayOr, Cut, Passes};

const fn stays(name: &'static str, sends: &'static [u8], outcome: Outcome) -> Case {
    Case { name, sends, closes: false, outcome }
}

const fn closes(name: &'static str, sends: &'static [u8], outcome: Outcome) -> Case {
    Case { name, sends, closes: true, outcome }
}

const HELLO: Got = Got::body("hello");
const EMPTY: Got = Got::body("");

#[rustfmt::skip]
const HEADS: &[Case] = &[
    stays("plain", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-b:2\r\n\r\nhello", Passes(HELLO.fields(&[("x-a", "1"), ("x-b", "2")]))),
    stays("no-reason", b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", Passes(HELLO)),
    stays("no-reason-no-space", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", BadGatewayOr(HELLO)),
    stays("own-reason", b"HTTP/1.1 299 In Order\r\nContent-Length: 5\r\n\r\nhello", Passes(HELLO.status(299))),
    stays("unknown-status", b"HTTP/1.1 600 Hm\r\nContent-Length: 5\r\n\r\nhello", BadGatewayOr(HELLO.status(600))),
    stays("two-digits", b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("four-digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("no-digits", b"HTTP/1.1 OK\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("other-version", b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("other-protocol", b"ICY 200 OK\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    closes("garbage", b"hello\r\n\r\n", BadGateway),
    closes("tls-alert", b"\x15\x03\x01\x00\x02\x02\x16", BadGateway),
    closes("nothing", b"", BadGateway),
    closes("cut-in-line", b"HTTP/1.1 200", BadGateway),
    closes("cut-in-fields", b"HTTP/1.1 200 OK\r\nX-A: 1\r\n", BadGateway),
    stays("folded", b"HTTP/1.1 200 OK\r\nX-A: 1\r\n X: 2\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("bare-cr", b"HTTP/1.1 200 OK\r\nX-A: 1\rX: 2\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("nul", b"HTTP/1.1 200 OK\r\nX-A: 1\0\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("nul-in-reason", b"HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("bare-lf", b"HTTP/1.1 200 OK\nX-A: 1\nContent-Length: 5\n\nhello", BadGatewayOr(HELLO.fields(&[("x-a", "1")]))),
    stays("space-before-colon", b"HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 5\r\n\r\nhello", BadGatewayOr(HELLO.fields(&[("x-a", "1")]))),
    stays("space-before-framing-colon", b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", BadGatewayOr(HELLO)),
    stays("no-colon", b"HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 5\r\n\r\nhello", BadGateway),
    stays("hop-fields", b"HTTP/1.1 200 OK\r\nConnection: x-private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello", Passes(HELLO.fields(&[("x-a", "1")]))),
    stays("hop-length", b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello", Passes(HELLO)),
    stays("switch-unasked", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", BadGateway),
];

#[rustfmt::skip]
const BODIES: &[Case] = &[
    stays("length-zero", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Passes(EMPTY)),
    stays("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", Passes(HELLO.trailers(&[("x-sum", "1")]))),
    closes("until-close", b"HTTP/1.1 200 OK\r\n\r\nhello", Passes(HELLO)),
    closes("until-close-http10", b"HTTP/1.0 200 OK\r\n\r\nhello", Passes(HELLO)),
    closes("until-close-said", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", Passes(HELLO)),
    stays("length-and-chunked", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", BadGatewayOr(HELLO)),
    stays("two-lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello", BadGateway),
    stays("two-lengths-in-a-list", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 7\r\n\r\nhello", BadGateway),
    stays("same-length-twice", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", BadGatewayOr(HELLO)),
    stays("length-plus", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", BadGateway),
    stays("length-minus", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", BadGateway),
    stays("length-empty", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello", BadGateway),
    stays("length-over-64-bits", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhello", BadGateway),
    stays("chunked-twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", BadGateway),
    stays("gzip-chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", BadGateway),
    closes("chunked-not-last", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nhello", BadGateway),
    closes("unknown-coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nhello", BadGateway),
    stays("chunked-of-http10", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", BadGateway),
    closes("length-too-long", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", Cut),
    closes("chunks-cut", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Cut),
    closes("chunk-cut", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello", Cut),
    stays("chunk-size-overflow", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", Cut),
    stays("chunk-size-bad", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n", Cut),
    stays("chunk-too-long", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", Cut),
    stays("trailer-bad", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A\r\n\r\n", Cut),
];

/// What comes behind a response, or in one that has no body, must not become the answer to the next request.
#[rustfmt::skip]
const UNASKED: &[Case] = &[
    stays("second-response", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Passes(HELLO)),
    stays("second-response-after-chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Passes(HELLO)),
    stays("body-longer-than-length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello world", Passes(HELLO)),
    stays("204-with-body", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Passes(EMPTY.status(204))),
    stays("204-with-length", b"HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", BadGatewayOr(EMPTY.status(204))),
    stays("204-with-chunks", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", BadGatewayOr(EMPTY.status(204))),
    stays("304-with-length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n", Passes(EMPTY.status(304).fields(&[("etag", "\"x\"")]))),
    stays("304-with-body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", Passes(EMPTY.status(304))),
    stays("interim-unasked", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Passes(HELLO)),
    stays("interim-with-length", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", BadGatewayOr(HELLO)),
];

/// Answers each GET with the bytes of its case.
async fn app(cases: &'static [Case]) -> std::net::SocketAddr {
    let cases: Arc<HashMap<_, _>> =
        Arc::new(cases.iter().map(|case| (format!("/{}", case.name), case)).collect());
    app::tcp(move |stream| {
        let cases = Arc::clone(&cases);
        async move {
            let mut wire = Wire::plain(stream).unhurried();
            while let Ok(request) = wire.try_request().await {
                let target = request.head.target();
                let plain = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                let case = cases.get(target);
                let answer = case.map_or(plain.as_bytes(), |case| case.sends);
                if wire.try_send(answer).await.is_err() || case.is_some_and(|case| case.closes) {
                    return;
                }
            }
        }
    })
    .await
}

async fn check(door: Door, cases: &'static [Case]) {
    let scene = Scene::at(door, app(cases).await).await;
    let mut faults = String::new();
    for case in cases {
        let mut client = scene.connect().await;
        let got = ask(&mut client, case.name).await;
        // An honest request, on the same connection if that one still is good for it.
        let next = format!("next-{}", case.name);
        let mut answer = match got {
            Ok(_) => ask(&mut client, &next).await,
            Err(_) => Err(Broken::Reset),
        };
        if !matches!(answer, Ok(_) | Err(Broken::Malformed(_))) {
            answer = ask(&mut scene.connect().await, &next).await;
        }
        if !answer.as_ref().is_ok_and(|answer| answer.body.text() == format!("/{next}")) {
            writeln!(faults, "{}: the next request got {answer:?}", case.name).unwrap();
        }
        let own_error =
            |got: &Message| got.head.status() == 502 && got.head.get("x-svidecar-error").is_some();
        let right = match (&case.outcome, &got) {
            (Passes(expected), Ok(got)) => matches(expected, got),
            (BadGateway, Ok(got)) => own_error(got),
            (BadGatewayOr(expected), Ok(got)) => own_error(got) || matches(expected, got),
            (Cut, Ok(got)) => own_error(got),
            (Cut, Err(Broken::Cut(_) | Broken::Reset)) => true,
            _ => false,
        };
        if !right {
            writeln!(faults, "{}: the client got {got:?}", case.name).unwrap();
        }
    }
    assert!(faults.is_empty(), "{door:?}\n{faults}");
}

/// One GET; past the interim responses.
async fn ask(client: &mut Wire, name: &str) -> Result<Message, Broken> {
    client.try_send(format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n")).await.map_err(|_| Broken::Reset)?;
    loop {
        let response = client.try_response("GET").await?;
        if response.head.status() >= 200 || response.head.status() == 101 {
            return Ok(response);
        }
    }
}

fn matches(expected: &Got, got: &Message) -> bool {
    let plain = |fields: &Fields| -> Vec<(String, String)> {
        let ours = ["content-length", "transfer-encoding", "connection"];
        let lower = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        lower.filter(|(name, _)| !ours.contains(&name.as_str())).collect()
    };
    let owned = |fields: &[(&str, &str)]| -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    got.head.status() == expected.status
        && plain(&got.head.fields) == owned(expected.fields)
        && got.body.text() == expected.body
        && plain(&got.body.trailers) == owned(expected.trailers)
}

#[tokio::test]
async fn response_heads() {
    for door in Door::BOTH {
        check(door, HEADS).await;
    }
}

#[tokio::test]
async fn response_bodies() {
    for door in Door::BOTH {
        check(door, BODIES).await;
    }
}

#[tokio::test]
async fn answers_that_nobody_asked_for() {
    for door in Door::BOTH {
        check(door, UNASKED).await;
    }
}
