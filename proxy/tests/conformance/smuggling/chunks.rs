//! The chunked coding (RFC 9112 §7.1), and the trailers behind it.

use super::{
    Case,
    Outcome::{Broken, DroppedOrBroken, Passes, Unfinished},
    Seen, check,
};
use crate::tools::scene::Door;

/// A case whose head is always the same.
macro_rules! chunked {
    ($name:literal, $body:expr, $outcome:expr) => {
        Case {
            name: $name,
            sends: concat!("POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", $body)
                .as_bytes(),
            outcome: $outcome,
        }
    };
}

const HELLO: Seen = Seen::line("POST /CASE HTTP/1.1").body("hello");

#[rustfmt::skip]
const SIZES: &[Case] = &[
    chunked!("chunk-plain", "5\r\nhello\r\n0\r\n\r\n", Passes(HELLO)),
    chunked!("chunk-several", "1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n", Passes(HELLO)),
    chunked!("chunk-hex", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", Passes(HELLO.body("01234567890123456789"))),
    chunked!("chunk-leading-zeros", "0005\r\nhello\r\n000\r\n\r\n", Passes(HELLO)),
    chunked!("chunk-none", "0\r\n\r\n", Passes(HELLO.body(""))),
    chunked!("chunk-extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", Passes(HELLO)),
    chunked!("chunk-extension-quoted", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", Passes(HELLO)),
    chunked!("chunk-extension-spaces", "5 ; a = b\r\nhello\r\n0\r\n\r\n", Passes(HELLO)),
    chunked!("chunk-size-over-64-bits", "10000000000000005\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Broken),
    chunked!("chunk-size-all-f", "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Unfinished),
    chunked!("chunk-size-minus", "-5\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-plus", "+5\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-0x", "0x5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Broken),
    chunked!("chunk-size-underscore", "0_5\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-empty", "\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-space-before", " 5\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-two-numbers", "5 5\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-nul", "5\0\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-not-hex", "g\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-only-extension", ";a=b\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-lf", "5\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-cr", "5\rhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-size-cr-cr-lf", "5\r\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-extension-lf", "5;a\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-extension-hides-a-line", "5;\nxx\r\n4c\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Broken),
    chunked!("chunk-extension-cr", "5;a\rb\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-extension-nul", "5;a\0b\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-longer-than-its-size", "3\r\nhello\r\n0\r\n\r\n", Broken),
    chunked!("chunk-without-crlf", "5\r\nhello0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Broken),
    chunked!("chunk-ends-in-lf", "5\r\nhello\n0\r\n\r\n", Broken),
    chunked!("chunk-ends-in-cr", "5\r\nhello\r0\r\n\r\n", Broken),
    chunked!("chunk-last-without-empty-line", "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Broken),
    chunked!("chunk-last-with-lf", "5\r\nhello\r\n0\n\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Broken),
    chunked!("chunk-never-ends", "5\r\nhello\r\n", Unfinished),
    chunked!("chunk-cut-in-size", "5\r\nhello\r\n5", Unfinished),
    chunked!("chunk-cut-in-data", "ff\r\nhello", Unfinished),
    chunked!("chunk-cut-after-last", "5\r\nhello\r\n0\r\n", Unfinished),
];

/// RFC 9110 §6.5: trailers go on, but those that would frame, route or identify the message do not.
#[rustfmt::skip]
const TRAILERS: &[Case] = &[
    chunked!("trailer-kept", "5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-b:2\r\n\r\n", Passes(HELLO.trailers(&[("x-sum", "1"), ("x-b", "2")]))),
    chunked!("trailer-length", "5\r\nhello\r\n0\r\nContent-Length: 50\r\nX-Sum: 1\r\n\r\n", DroppedOrBroken(HELLO.trailers(&[("x-sum", "1")]))),
    chunked!("trailer-coding", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\nX-Sum: 1\r\n\r\n", DroppedOrBroken(HELLO.trailers(&[("x-sum", "1")]))),
    chunked!("trailer-host", "5\r\nhello\r\n0\r\nHost: b\r\nX-Sum: 1\r\n\r\n", DroppedOrBroken(HELLO.trailers(&[("x-sum", "1")]))),
    chunked!("trailer-connection", "5\r\nhello\r\n0\r\nConnection: close\r\nX-Sum: 1\r\n\r\n", DroppedOrBroken(HELLO.trailers(&[("x-sum", "1")]))),
    chunked!("trailer-identity", "5\r\nhello\r\n0\r\nX-Spiffe-Id: spiffe://demo.org/root\r\nx-forwarded-client-cert: URI=x\r\nX-Sum: 1\r\n\r\n", DroppedOrBroken(HELLO.trailers(&[("x-sum", "1")]))),
    chunked!("trailer-space-before-colon", "5\r\nhello\r\n0\r\nX-Sum : 1\r\n\r\n", Broken),
    chunked!("trailer-no-colon", "5\r\nhello\r\n0\r\nX-Sum\r\n\r\n", Broken),
    chunked!("trailer-folded", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n Content-Length: 5\r\n\r\n", Broken),
    chunked!("trailer-nul", "5\r\nhello\r\n0\r\nX-Sum: 1\0\r\n\r\n", Broken),
    chunked!("trailer-bare-cr", "5\r\nhello\r\n0\r\nX-Sum: 1\rX: 2\r\n\r\n", Broken),
    chunked!("trailer-lf", "5\r\nhello\r\n0\r\nX-Sum: 1\nX-B: 2\r\n\r\n", Broken),
];

#[tokio::test]
async fn chunk_sizes() {
    for door in Door::BOTH {
        check(door, SIZES).await;
    }
}

#[tokio::test]
async fn trailers() {
    for door in Door::BOTH {
        check(door, TRAILERS).await;
    }
}
