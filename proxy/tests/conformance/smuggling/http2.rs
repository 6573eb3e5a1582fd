//! HTTP/2 in front of an app that speaks HTTP/1.1: what a binary protocol can carry and a text protocol cannot
//! (RFC 9113 §8).

use std::fmt::Write as _;

use super::{Recorder, SMUGGLED, Seen, matches};
use crate::tools::{
    http2::{Frame, Http2, Outcome as Ended, code},
    message::{Broken, Message},
    scene::{Door, Scene},
};

type Fields = &'static [(&'static str, &'static str)];

/// One request.
struct Case {
    /// `/CASE` in a value stands for it.
    name: &'static str,
    fields: Fields,
    /// In DATA frames of their own.
    data: &'static [&'static str],
    trailers: Option<Fields>,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// The stream is reset with PROTOCOL_ERROR or answered with a 400 (RFC 9113 §8.1.1), the connection goes on, and
    /// the app never sees a whole request.
    Malformed,
    /// Answered with this status; the app sees nothing.
    Denied(u16),
    /// The app sees exactly this.
    Passes(Seen),
    /// The RFCs leave the choice.
    MalformedOr(Seen),
}

use Outcome::{Denied, Malformed, MalformedOr, Passes};

const GET: Seen = Seen::line("GET /CASE HTTP/1.1");
const POST: Seen = Seen::line("POST /CASE HTTP/1.1");
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// A GET with more fields.
macro_rules! get {
    ($name:literal, [$($field:expr),*], $outcome:expr) => {
        Case {
            name: $name,
            fields: &[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), $($field),*],
            data: &[],
            trailers: None,
            outcome: $outcome,
        }
    };
}

/// A POST with more fields and a body.
macro_rules! post {
    ($name:literal, [$($field:expr),*], [$($data:expr),*], $trailers:expr, $outcome:expr) => {
        Case {
            name: $name,
            fields: &[(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), $($field),*],
            data: &[$($data),*],
            trailers: $trailers,
            outcome: $outcome,
        }
    };
}

/// A request with these fields alone.
macro_rules! bare {
    ($name:literal, [$($field:expr),*], $outcome:expr) => {
        Case { name: $name, fields: &[$($field),*], data: &[], trailers: None, outcome: $outcome }
    };
}

/// H2.CL, H2.TE: the framing is HTTP/2's, whatever the fields say.
#[rustfmt::skip]
const FRAMING: &[Case] = &[
    post!("h2-plain", [], ["hel", "lo"], None, Passes(POST.body("hello"))),
    post!("h2-length", [("content-length", "5")], ["hel", "lo"], None, Passes(POST.body("hello"))),
    post!("h2-trailers", [], ["hello"], Some(&[("x-sum", "1")]), Passes(POST.body("hello").trailers(&[("x-sum", "1")]))),
    post!("h2-cl-zero", [("content-length", "0")], [HIDDEN], None, Malformed),
    post!("h2-cl-short", [("content-length", "4")], [HIDDEN], None, Malformed),
    post!("h2-cl-long", [("content-length", "50")], ["hello"], None, Malformed),
    get!("h2-cl-of-no-body", [("content-length", "5")], Malformed),
    get!("h2-cl-zero-of-no-body", [("content-length", "0")], Passes(GET)),
    post!("h2-cl-twice", [("content-length", "5"), ("content-length", "0")], ["hello"], None, Malformed),
    post!("h2-cl-twice-the-same", [("content-length", "5"), ("content-length", "5")], ["hello"], None, MalformedOr(POST.body("hello"))),
    post!("h2-cl-plus", [("content-length", "+5")], ["hello"], None, Malformed),
    post!("h2-cl-empty", [("content-length", "")], ["hello"], None, Malformed),
    post!("h2-cl-injection", [("content-length", "5\r\n\r\nGET /smuggled HTTP/1.1")], ["hello"], None, Malformed),
    post!("h2-te-chunked", [("transfer-encoding", "chunked")], ["0\r\n\r\n", HIDDEN], None, Malformed),
    post!("h2-te-identity", [("transfer-encoding", "identity")], ["hello"], None, Malformed),
    post!("h2-body-looks-chunked", [], ["0\r\n\r\n", HIDDEN], None, Passes(POST.body("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))),
    post!("h2-trailer-pseudo", [], ["hello"], Some(&[(":path", "/smuggled")]), Malformed),
    post!("h2-trailer-length", [], ["hello"], Some(&[("content-length", "50"), ("x-sum", "1")]), MalformedOr(POST.body("hello").trailers(&[("x-sum", "1")]))),
    post!("h2-trailer-coding", [], ["hello"], Some(&[("transfer-encoding", "chunked")]), Malformed),
    post!("h2-trailer-injection", [], ["hello"], Some(&[("x-sum", "1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")]), Malformed),
    post!("h2-trailer-identity", [], ["hello"], Some(&[("x-spiffe-id", "spiffe://demo.org/root"), ("x-sum", "1")]), MalformedOr(POST.body("hello").trailers(&[("x-sum", "1")]))),
];

/// RFC 9113 §8.2: fields.
#[rustfmt::skip]
const FIELDS: &[Case] = &[
    get!("h2-fields", [("x-b", "2"), ("x-a", "1"), ("x-b", "3"), ("x-empty", "")], Passes(GET.fields(&[("x-b", "2"), ("x-a", "1"), ("x-b", "3"), ("x-empty", "")]))),
    get!("h2-cookie-crumbs", [("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2")], Passes(GET.fields(&[("cookie", "a=1; b=2"), ("x-a", "1")]))),
    get!("h2-te-trailers", [("te", "trailers")], Passes(GET.fields(&[("te", "trailers")]))),
    get!("h2-te-gzip", [("te", "gzip")], Malformed),
    get!("h2-connection", [("connection", "keep-alive")], Malformed),
    get!("h2-connection-close", [("connection", "close")], Malformed),
    get!("h2-keep-alive", [("keep-alive", "5")], Malformed),
    get!("h2-proxy-connection", [("proxy-connection", "keep-alive")], Malformed),
    get!("h2-upgrade", [("upgrade", "websocket")], Malformed),
    get!("h2-name-upper-case", [("X-A", "1")], Malformed),
    get!("h2-name-empty", [("", "1")], Malformed),
    get!("h2-name-with-space", [("x a", "1")], Malformed),
    get!("h2-name-with-colon", [("x:a", "1")], Malformed),
    get!("h2-name-with-crlf", [("x: 1\r\ntransfer-encoding: chunked\r\ny", "1")], Malformed),
    get!("h2-name-with-nul", [("x\0a", "1")], Malformed),
    get!("h2-name-not-ascii", [("x\u{e9}", "1")], Malformed),
    get!("h2-value-crlf", [("x-a", "1\r\ntransfer-encoding: chunked")], Malformed),
    get!("h2-value-cr", [("x-a", "1\r2")], Malformed),
    get!("h2-value-lf", [("x-a", "1\nx-b: 2")], Malformed),
    get!("h2-value-nul", [("x-a", "1\x002")], Malformed),
    get!("h2-value-space-before", [("x-a", " 1")], MalformedOr(GET.fields(&[("x-a", "1")]))),
    get!("h2-value-space-behind", [("x-a", "1\t")], MalformedOr(GET.fields(&[("x-a", "1")]))),
    get!("h2-value-delete", [("x-a", "1\x7f2")], MalformedOr(GET)),
    get!("h2-identity", [("x-spiffe-id", "spiffe://demo.org/root"), ("x_spiffe_id", "1")], Passes(GET)),
];

/// RFC 9113 §8.3: pseudo-header fields.
#[rustfmt::skip]
const PSEUDO: &[Case] = &[
    bare!("h2-no-method", [(":scheme", "https"), (":authority", "a"), (":path", "/CASE")], Malformed),
    bare!("h2-no-scheme", [(":method", "GET"), (":authority", "a"), (":path", "/CASE")], Malformed),
    bare!("h2-no-path", [(":method", "GET"), (":scheme", "https"), (":authority", "a")], Malformed),
    bare!("h2-path-empty", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "")], Malformed),
    bare!("h2-path-relative", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "CASE")], Malformed),
    bare!("h2-path-asterisk-of-get", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "*")], Malformed),
    bare!("h2-path-with-space", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE HTTP/1.1")], Malformed),
    bare!("h2-path-with-crlf", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled")], Malformed),
    bare!("h2-path-with-nul", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE\0")], Malformed),
    bare!("h2-path-with-fragment", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE#/smuggled")], Malformed),
    bare!("h2-path-absolute", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "http://b/CASE")], Malformed),
    bare!("h2-path-ambiguous", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE%2f")], Denied(400)),
    bare!("h2-path-twice", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), (":path", "/smuggled")], Malformed),
    bare!("h2-method-twice", [(":method", "GET"), (":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE")], Malformed),
    bare!("h2-method-injection", [(":method", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE")], Malformed),
    bare!("h2-method-with-space", [(":method", "GET /smuggled HTTP/1.1"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE")], Malformed),
    bare!("h2-method-empty", [(":method", ""), (":scheme", "https"), (":authority", "a"), (":path", "/CASE")], Malformed),
    bare!("h2-scheme-injection", [(":method", "GET"), (":scheme", "https://b/smuggled?"), (":authority", "a"), (":path", "/CASE")], Malformed),
    bare!("h2-unknown-pseudo", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), (":x", "1")], Malformed),
    bare!("h2-status", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), (":status", "200")], Malformed),
    bare!("h2-protocol-of-get", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), (":protocol", "websocket")], Malformed),
    bare!("h2-pseudo-after-field", [(":method", "GET"), (":scheme", "https"), (":path", "/CASE"), ("x-a", "1"), (":authority", "a")], Malformed),
    bare!("h2-authority-twice", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":authority", "b"), (":path", "/CASE")], Malformed),
    bare!("h2-authority-injection", [(":method", "GET"), (":scheme", "https"), (":authority", "a\r\nTransfer-Encoding: chunked"), (":path", "/CASE")], Malformed),
    bare!("h2-authority-with-space", [(":method", "GET"), (":scheme", "https"), (":authority", "a b"), (":path", "/CASE")], Malformed),
    bare!("h2-authority-with-path", [(":method", "GET"), (":scheme", "https"), (":authority", "a/smuggled"), (":path", "/CASE")], Malformed),
    bare!("h2-authority-with-user", [(":method", "GET"), (":scheme", "https"), (":authority", "b@a"), (":path", "/CASE")], Malformed),
    bare!("h2-host-alone", [(":method", "GET"), (":scheme", "https"), (":path", "/CASE"), ("host", "a")], Passes(GET)),
    bare!("h2-host-agrees", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), ("host", "a")], Passes(GET)),
    bare!("h2-host-differs", [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/CASE"), ("host", "b")], MalformedOr(GET)),
    bare!("h2-host-twice", [(":method", "GET"), (":scheme", "https"), (":path", "/CASE"), ("host", "a"), ("host", "b")], Malformed),
    bare!("h2-connect-with-path", [(":method", "CONNECT"), (":scheme", "https"), (":authority", "a:80"), (":path", "/CASE")], Malformed),
    bare!("h2-connect-without-authority", [(":method", "CONNECT")], Malformed),
];

/// Sends each case as a stream of its own, with an honest request behind it on the same connection.
async fn check(door: Door, cases: &[Case]) {
    let recorder = Recorder::listen().await;
    let scene = Scene::at(door, recorder.address).await;
    let mut faults = String::new();
    let mut ends = Vec::new();
    for case in cases {
        let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
        let path = format!("/{}", case.name);
        let own = |fields: Fields| -> Vec<(&str, String)> {
            fields.iter().map(|(name, value)| (*name, value.replace("/CASE", &path))).collect()
        };
        let mut frames =
            vec![Frame::headers(1, case.data.is_empty() && case.trailers.is_none(), &own(case.fields))];
        for (index, data) in case.data.iter().enumerate() {
            let last = index + 1 == case.data.len() && case.trailers.is_none();
            frames.push(Frame::data(1, last, *data));
        }
        frames.extend(case.trailers.map(|trailers| Frame::headers(1, true, &own(trailers))));
        client.try_send(&frames).await.unwrap();
        ends.push(client.outcome(1).await);
        let next = format!("/next-{}", case.name);
        match client.get(3, &next).await {
            Ended::Response(response) if response.text() == next => {}
            other => writeln!(faults, "{}: the request that follows got {other:?}", case.name).unwrap(),
        }
    }
    tokio::task::spawn_blocking(|| scene.stop()).await.unwrap();
    let journals = recorder.journals().await;

    for (case, end) in cases.iter().zip(&ends) {
        let target = format!("/{}", case.name);
        let whole: Vec<&Message> =
            journals.iter().flatten().flatten().filter(|seen| seen.head.target() == target).collect();
        let malformed = whole.is_empty()
            && match end {
                Ended::Reset(code) => *code == code::PROTOCOL_ERROR,
                Ended::Response(response) => response.status == 400,
                Ended::Ended(_) => false,
            };
        let answered = |status| matches!(end, Ended::Response(response) if response.status == status);
        let passes = |seen: &Seen| answered(200) && whole.len() == 1 && matches(case.name, seen, whole[0]);
        let right = match &case.outcome {
            Malformed => malformed,
            Denied(status) => whole.is_empty() && answered(*status),
            Passes(seen) => passes(seen),
            MalformedOr(seen) => malformed || passes(seen),
        };
        if !right {
            let seen: Vec<_> =
                whole.iter().map(|seen| (&seen.head.line, &seen.head.fields, &seen.body)).collect();
            writeln!(faults, "{}: the client got {end:?}, the app {seen:?}", case.name).unwrap();
        }
    }
    for seen in journals.iter().flatten() {
        match seen {
            Ok(seen) if seen.head.target().starts_with(SMUGGLED) => {
                writeln!(faults, "the app saw a smuggled request: {:?}", seen.head).unwrap();
            }
            Err((head, broken @ Broken::Malformed(_))) => {
                writeln!(faults, "the app cannot read {head:?}: {broken}").unwrap();
            }
            _ => {}
        }
    }
    assert!(faults.is_empty(), "{door:?}\n{faults}");
}

#[tokio::test]
async fn http2_framing() {
    for door in Door::BOTH {
        check(door, FRAMING).await;
    }
}

#[tokio::test]
async fn http2_fields() {
    for door in Door::BOTH {
        check(door, FIELDS).await;
    }
}

#[tokio::test]
async fn http2_pseudo_fields() {
    for door in Door::BOTH {
        check(door, PSEUDO).await;
    }
}
