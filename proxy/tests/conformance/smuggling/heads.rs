//! The request line and the fields: what has no meaning, two meanings, or a hidden one.

use super::{
    Case,
    Outcome::{Denied, Passes, Refused, RefusedOrPasses},
    Seen, check,
};
use crate::tools::scene::Door;

const fn case(name: &'static str, sends: &'static [u8], outcome: super::Outcome) -> Case {
    Case { name, sends, outcome }
}

const PLAIN: Seen = Seen::line("GET /CASE HTTP/1.1");

/// RFC 9112 §3: the request line.
#[rustfmt::skip]
const LINES: &[Case] = &[
    case("line-plain", b"GET /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Passes(PLAIN)),
    case("line-query", b"GET /CASE?a=%2e&b=c/d?e HTTP/1.1\r\nHost: a\r\n\r\n", Passes(Seen::line("GET /CASE?a=%2e&b=c/d?e HTTP/1.1"))),
    case("line-empty-lines-before", b"\r\n\r\nGET /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Passes(PLAIN)),
    case("line-own-method", b"BREW /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Passes(Seen::line("BREW /CASE HTTP/1.1"))),
    case("line-two-spaces", b"GET  /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-two-spaces-before-version", b"GET /CASE  HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-space-in-target", b"GET /CASE /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-two-versions", b"GET /CASE HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-space-after-version", b"GET /CASE HTTP/1.1 \r\nHost: a\r\n\r\n", Refused(400)),
    case("line-space-before-method", b" GET /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-tabs", b"GET\t/CASE\tHTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-bare-cr", b"GET /CASE\rHTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-cr-ends-it", b"GET /CASE HTTP/1.1\rHost: a\r\n\r\n", Refused(400)),
    case("line-nul-in-target", b"GET /CASE\0 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-delete-in-target", b"GET /CASE\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-raw-utf8-in-target", b"GET /CASE?\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", RefusedOrPasses(Seen::line("GET /CASE?\u{c3}\u{a9} HTTP/1.1"))),
    case("line-fragment", b"GET /CASE#/smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-method-not-a-token", b"GE(T /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-no-method", b" /CASE HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-http09", b"GET /CASE\r\n\r\n", Refused(400)),
    case("line-http12-is-served-as-http11", b"GET /CASE HTTP/1.2\r\nHost: a\r\n\r\n", RefusedOrPasses(PLAIN)),
    case("line-http2-is-not-on-this-line", b"GET /CASE HTTP/2.0\r\nHost: a\r\n\r\n", Refused(505)),
    case("line-version-lower-case", b"GET /CASE http/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-version-with-more-digits", b"GET /CASE HTTP/1.10\r\nHost: a\r\n\r\n", Refused(400)),
    case("line-encoded-crlf-stays-encoded", b"GET /CASE?x=%0d%0aGET%20/smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Passes(Seen::line("GET /CASE?x=%0d%0aGET%20/smuggled HTTP/1.1"))),
    case("line-options-asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Passes(Seen::line("OPTIONS * HTTP/1.1"))),
    case("line-get-asterisk", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Denied(400)),
    case("line-relative-target", b"GET CASE HTTP/1.1\r\nHost: a\r\n\r\n", Denied(400)),
    case("line-authority-form-for-get", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Denied(400)),
];

/// RFC 9112 §3.2.2 and §3.2.3, RFC 9110 §7.2: where the request goes.
#[rustfmt::skip]
const AUTHORITIES: &[Case] = &[
    case("host-port", b"GET /CASE HTTP/1.1\r\nHost: a:8080\r\n\r\n", Passes(PLAIN.host("a:8080"))),
    case("host-ipv6", b"GET /CASE HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Passes(PLAIN.host("[::1]:80"))),
    case("host-missing", b"GET /CASE HTTP/1.1\r\nAccept: x\r\n\r\n", Refused(400)),
    case("host-twice", b"GET /CASE HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refused(400)),
    case("host-twice-the-same", b"GET /CASE HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Refused(400)),
    case("host-list", b"GET /CASE HTTP/1.1\r\nHost: a, b\r\n\r\n", Refused(400)),
    case("host-with-space", b"GET /CASE HTTP/1.1\r\nHost: a b\r\n\r\n", Refused(400)),
    case("host-with-path", b"GET /CASE HTTP/1.1\r\nHost: a/smuggled\r\n\r\n", Refused(400)),
    case("host-with-user", b"GET /CASE HTTP/1.1\r\nHost: b@a\r\n\r\n", Refused(400)),
    case("host-with-bad-port", b"GET /CASE HTTP/1.1\r\nHost: a:b\r\n\r\n", Refused(400)),
    case("host-space-before-colon", b"GET /CASE HTTP/1.1\r\nHost : a\r\n\r\n", Refused(400)),
    case("absolute-agrees", b"GET http://a/CASE HTTP/1.1\r\nHost: a\r\n\r\n", Passes(PLAIN)),
    case("absolute-wins-over-host", b"GET http://b/CASE?q HTTP/1.1\r\nHost: a\r\n\r\n", Passes(Seen::line("GET /CASE?q HTTP/1.1").host("b"))),
    case("absolute-without-host", b"GET http://a/CASE HTTP/1.1\r\nAccept: x\r\n\r\n", Refused(400)),
    case("absolute-two-hosts", b"GET http://a/CASE HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refused(400)),
    case("absolute-with-user", b"GET http://b@a/CASE HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("absolute-without-authority", b"GET http:///CASE HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    case("absolute-of-another-scheme", b"GET ftp://a/CASE HTTP/1.1\r\nHost: a\r\n\r\n", RefusedOrPasses(PLAIN)),
    case("connect", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Denied(405)),
];

/// RFC 9112 §5: field lines.
#[rustfmt::skip]
const FIELDS: &[Case] = &[
    case("field-kept", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-B: 2\r\nx-a:1\r\nX-b: \t3 \r\nx-empty:\r\n\r\n",
        Passes(PLAIN.fields(&[("x-b", "2"), ("x-a", "1"), ("x-b", "3"), ("x-empty", "")]))),
    case("field-latin1-kept", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: \xe9\r\n\r\n", Passes(PLAIN.fields(&[("x-a", "\u{e9}")]))),
    case("field-obs-fold", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n", Refused(400)),
    case("field-obs-fold-tab", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\tTransfer-Encoding: chunked\r\n\r\n", Refused(400)),
    case("field-folded-first", b"GET /CASE HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n", Refused(400)),
    case("field-space-before-colon", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n", Refused(400)),
    case("field-tab-before-colon", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A\t: 1\r\n\r\n", Refused(400)),
    case("field-space-in-name", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX A: 1\r\n\r\n", Refused(400)),
    case("field-no-name", b"GET /CASE HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", Refused(400)),
    case("field-no-colon", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", Refused(400)),
    case("field-name-not-a-token", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX(A): 1\r\n\r\n", Refused(400)),
    case("field-name-with-nul", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX\0A: 1\r\n\r\n", Refused(400)),
    case("field-name-not-ascii", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX\xe9: 1\r\n\r\n", Refused(400)),
    case("field-bare-cr", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\rTransfer-Encoding: chunked\r\n\r\n", Refused(400)),
    case("field-cr-cr-lf", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\r\r\nX-B: 2\r\n\r\n", Refused(400)),
    case("field-nul", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\0 2\r\n\r\n", Refused(400)),
    case("field-vertical-tab", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\x0b2\r\n\r\n", Refused(400)),
    case("field-delete", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\x7f2\r\n\r\n", Refused(400)),
    case("field-bare-lf", b"GET /CASE HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n", RefusedOrPasses(PLAIN.fields(&[("x-a", "1")]))),
    case("field-bare-lf-at-the-end", b"GET /CASE HTTP/1.1\r\nHost: a\r\nX-A: 1\n\n", RefusedOrPasses(PLAIN.fields(&[("x-a", "1")]))),
    case("field-lf-cr", b"GET /CASE HTTP/1.1\r\nHost: a\n\rX-A: 1\r\n\r\n", Refused(400)),
];

/// RFC 9110 §7.6.1: what belongs to one hop does not reach the next, and nothing else can be made to vanish.
#[rustfmt::skip]
const HOPS: &[Case] = &[
    case("hop-fields-go", b"GET /CASE HTTP/1.1\r\nHost: a\r\nConnection: X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nX-A: 1\r\n\r\n",
        Passes(PLAIN.fields(&[("x-a", "1")]))),
    case("hop-host-stays", b"GET /CASE HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", Passes(PLAIN)),
    case("hop-length-stays", b"POST /CASE HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 46\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX-Ignore: xxx",
        Passes(Seen::line("POST /CASE HTTP/1.1").body("GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Ignore: xxx"))),
    case("hop-coding-stays", b"POST /CASE HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Passes(Seen::line("POST /CASE HTTP/1.1").body("hello"))),
    case("hop-identity-is-ours", b"GET /CASE HTTP/1.1\r\nHost: a\r\nConnection: x-spiffe-id, x-forwarded-client-cert\r\nX-Spiffe-Id: spiffe://demo.org/root\r\nx_spiffe_id: 1\r\n\r\n", Passes(PLAIN)),
    case("hop-h2c-upgrade-goes", b"GET /CASE HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", Passes(PLAIN)),
    case("hop-te-trailers-stays", b"GET /CASE HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers, gzip\r\n\r\n",
        RefusedOrPasses(PLAIN.fields(&[("te", "trailers")]))),
];

#[tokio::test]
async fn request_lines() {
    for door in Door::BOTH {
        check(door, LINES).await;
    }
}

#[tokio::test]
async fn authorities() {
    for door in Door::BOTH {
        check(door, AUTHORITIES).await;
    }
}

#[tokio::test]
async fn fields() {
    for door in Door::BOTH {
        check(door, FIELDS).await;
    }
}

#[tokio::test]
async fn hops() {
    for door in Door::BOTH {
        check(door, HOPS).await;
    }
}
