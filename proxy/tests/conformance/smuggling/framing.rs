//! Where a body ends (RFC 9112 §6): the classic cases.

use super::{
    Case,
    Outcome::{Passes, Refused, RefusedOrPasses, Unfinished},
    Seen, check,
};
use crate::tools::scene::Door;

const fn case(name: &'static str, sends: &'static [u8], outcome: super::Outcome) -> Case {
    Case { name, sends, outcome }
}

const POST: Seen = Seen::line("POST /CASE HTTP/1.1");
const GET: Seen = Seen::line("GET /CASE HTTP/1.1");
/// 38 bytes that want to be a request.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n";

/// Content-Length and Transfer-Encoding in one request: a 400, or Transfer-Encoding alone counts, Content-Length does
/// not go on, and the connection ends (RFC 9112 §6.1, §6.3).
#[rustfmt::skip]
const BOTH: &[Case] = &[
    case("cl-te", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", RefusedOrPasses(POST)),
    case("te-cl", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", RefusedOrPasses(POST)),
    case("te-cl-zero", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", RefusedOrPasses(POST)),
    case("te-empty-cl", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-unknown-cl", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
];

/// Transfer-Encoding in the forms that some servers read as chunked and others do not. A coding that nobody knows is a
/// 501 (RFC 9112 §6.1).
#[rustfmt::skip]
const CODINGS: &[Case] = &[
    case("te", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Passes(POST.body("hello"))),
    case("te-of-get", b"GET /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Passes(GET.body("hello"))),
    case("te-upper-case", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Passes(POST.body("hello"))),
    case("te-tab", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\t\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Passes(POST.body("hello"))),
    case("te-te", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-chunked-chunked", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-te-identity", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-identity", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    case("te-chunked-not-last", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-gzip-chunked", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    case("te-gzip", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    case("te-xchunked", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    case("te-chunkedx", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    case("te-quoted", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    case("te-with-parameter", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    case("te-vertical-tab", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-nul", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-bare-cr", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r \r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-space-before-colon", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-space-before-colon-cl", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-folded", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-hidden-by-lf", b"POST /CASE HTTP/1.1\r\nHost: a\r\nX: a\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", RefusedOrPasses(POST.fields(&[("x", "a")]))),
    case("te-of-http10", b"POST /CASE HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("te-empty-element", b"POST /CASE HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", RefusedOrPasses(POST.body("hello"))),
];

/// Content-Length (RFC 9110 §8.6).
#[rustfmt::skip]
const LENGTHS: &[Case] = &[
    case("cl", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Passes(POST.body("hello"))),
    case("cl-none", b"POST /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Passes(POST)),
    case("cl-zero", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Passes(POST)),
    case("cl-spaces-around", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length:  5\t \r\n\r\nhello", Passes(POST.body("hello"))),
    case("cl-leading-zeros", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello", RefusedOrPasses(POST.body("hello"))),
    // CL.0: a server that does not expect a body with GET would read it as a request.
    case("cl-0-of-get", b"GET /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Passes(GET.body(HIDDEN))),
    case("cl-0-of-delete", b"DELETE /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Passes(Seen::line("DELETE /CASE HTTP/1.1").body(HIDDEN))),
    case("cl-twice-the-same", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", RefusedOrPasses(POST.body("hello"))),
    case("cl-list-of-the-same", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", RefusedOrPasses(POST.body("hello"))),
    case("cl-twice", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-list", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-plus", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: +38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-minus", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("cl-minus-zero", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("cl-empty", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("cl-hex", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 0x26\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-float", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 38.0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-two-numbers", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 0 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-underscore", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 3_8\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-quoted", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: \"38\"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-vertical-tab", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: \x0b38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-nul", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 38\0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-over-64-bits", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("cl-folded", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-space-before-colon", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length : 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: \r\n", Refused(400)),
    case("cl-longer-than-the-body", b"POST /CASE HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Unfinished),
];

#[tokio::test]
async fn both_framings() {
    for door in Door::BOTH {
        check(door, BOTH).await;
    }
}

#[tokio::test]
async fn transfer_codings() {
    for door in Door::BOTH {
        check(door, CODINGS).await;
    }
}

#[tokio::test]
async fn content_lengths() {
    for door in Door::BOTH {
        check(door, LENGTHS).await;
    }
}
