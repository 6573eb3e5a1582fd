use super::{
    super::{
        field::Kind,
        hpack::{Decoder, Sink},
    },
    *,
};
use crate::message::{Fields, RequestHead, ResponseHead, Version};

const LIMITS: Limits = Limits { bytes: 4096, fields: 20 };

/// Gives fields to a sink; a sensitive one begins with `!`.
fn give(sink: &mut impl Sink, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        let (name, sensitive) = name.strip_prefix('!').map_or((*name, false), |name| (name, true));
        let kind = Kind::of(name.as_bytes(), value.as_bytes());
        sink.field(name.as_bytes(), value.as_bytes(), kind, sensitive);
    }
}

fn request(fields: &[(&str, &str)]) -> Result<(RequestHead, Option<u64>), Problem> {
    let mut head = RequestHead::default();
    let mut reader = RequestReader::new(&mut head, LIMITS);
    give(&mut reader, fields);
    let length = reader.finish(true)?;
    Ok((head, length))
}

/// The pseudo-header fields of a plain request, and these.
fn plain<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "c:1")];
    fields.extend(more);
    fields
}

#[test]
fn a_request_is_read() {
    let (head, length) = request(&plain(&[
        ("accept", "*/*"),
        ("cookie", "a=1"),
        ("content-length", "12"),
        ("cookie", "b=2"),
        ("host", "C:1"),
    ]))
    .unwrap();
    assert_eq!(
        (
            head.version,
            head.method.as_str(),
            head.scheme.as_str(),
            head.authority.as_str(),
            head.target.as_str()
        ),
        (Version::Http2, "GET", "https", "c:1", "/a?b")
    );
    let expected: Fields =
        [("accept", "*/*"), ("cookie", "a=1"), ("content-length", "12"), ("cookie", "b=2")]
            .into_iter()
            .collect();
    assert_eq!((head.fields, length), (expected, Some(12)));
}

#[test]
fn requests_that_are_not_requests_are_refused() {
    let without = |name: &str| plain(&[]).into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let instead = |name: &'static str, value| {
        plain(&[])
            .into_iter()
            .map(|field| if field.0 == name { (name, value) } else { field })
            .collect::<Vec<_>>()
    };
    let cases = [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("no authority", without(":authority")),
        ("an empty path", instead(":path", "")),
        ("an asterisk", instead(":path", "*")),
        ("user information", instead(":authority", "user@host")),
        ("an unknown pseudo-header", plain(&[(":unknown", "1")])),
        ("a pseudo-header of responses", plain(&[(":status", "200")])),
        ("two methods", plain(&[(":method", "GET")])),
        ("two paths", plain(&[(":path", "/")])),
        ("a pseudo-header after a field", [("accept", "*/*")].into_iter().chain(plain(&[])).collect()),
        ("two lengths", plain(&[("content-length", "1"), ("content-length", "1")])),
        ("two hosts", plain(&[("host", "c:1"), ("host", "c:1")])),
        ("another host", plain(&[("host", "d")])),
        ("an empty host", without(":authority").into_iter().chain([("host", "")]).collect()),
        ("transfer-encoding", plain(&[("transfer-encoding", "chunked")])),
        ("connection", plain(&[("connection", "close")])),
        ("upper case", plain(&[("Accept", "*/*")])),
        ("a line break", plain(&[("accept", "a\r\nb: c")])),
        ("a protocol without CONNECT", plain(&[(":protocol", "websocket")])),
        ("CONNECT with a path", instead(":method", "CONNECT")),
        ("CONNECT without authority", vec![(":method", "CONNECT")]),
        (
            "CONNECT for a protocol without a path",
            vec![(":method", "CONNECT"), (":protocol", "websocket"), (":authority", "a")],
        ),
    ];
    for (why, fields) in cases {
        assert!(matches!(request(&fields), Err(Problem::Malformed(_))), "{why}");
    }
}

#[test]
fn connect_names_an_authority_alone_or_a_protocol_with_the_rest() {
    let (head, _) = request(&[(":method", "CONNECT"), (":authority", "a:1")]).unwrap();
    assert_eq!((head.authority.as_str(), head.target.as_str()), ("a:1", ""));
    let mut fields = vec![(":method", "CONNECT"), (":protocol", "websocket")];
    fields.extend(&plain(&[])[1..]);
    assert_eq!(request(&fields).unwrap().0.protocol, "websocket");
    let mut head = RequestHead::default();
    let mut reader = RequestReader::new(&mut head, LIMITS);
    give(&mut reader, &fields);
    assert!(matches!(reader.finish(false), Err(Problem::Malformed(_))), "not offered");
}

#[test]
fn limits_count_octets_and_fields() {
    let long = "a".repeat(4000);
    assert_eq!(request(&plain(&[("x-long", &long)])).unwrap_err(), Problem::TooLarge);
    request(&plain(&[("x-a", "1"); 16])).unwrap();
    assert_eq!(request(&plain(&[("x-a", "1"); 17])).unwrap_err(), Problem::TooLarge);
}

fn response(fields: &[(&str, &str)]) -> Result<(ResponseHead, Option<u64>), Problem> {
    let mut head = ResponseHead::default();
    let mut reader = ResponseReader::new(&mut head, LIMITS);
    give(&mut reader, fields);
    let length = reader.finish()?;
    Ok((head, length))
}

#[test]
fn responses_are_read_or_refused() {
    let (head, length) = response(&[(":status", "204"), ("server", "a")]).unwrap();
    assert_eq!((head.status, head.fields.get("server"), length), (204, Some(&b"a"[..]), None));
    for (why, fields) in [
        ("no status", &[("server", "a")][..]),
        ("two statuses", &[(":status", "200"), (":status", "200")]),
        ("a status after a field", &[("server", "a"), (":status", "200")]),
        ("a switch of protocols", &[(":status", "101")]),
        ("a status that is no status", &[(":status", "2000")]),
        ("a method", &[(":status", "200"), (":method", "GET")]),
    ] {
        assert!(matches!(response(fields), Err(Problem::Malformed(_))), "{why}");
    }
}

#[test]
fn trailers_have_no_pseudo_headers_and_no_framing() {
    let mut fields = Fields::new();
    let mut reader = TrailersReader::new(&mut fields, LIMITS);
    give(&mut reader, &[("grpc-status", "0"), ("content-length", "5"), ("host", "a")]);
    reader.finish().unwrap();
    assert_eq!(fields, [("grpc-status", "0")].into_iter().collect());
    let mut reader = TrailersReader::new(&mut fields, LIMITS);
    give(&mut reader, &[(":path", "/")]);
    assert!(matches!(reader.finish(), Err(Problem::Malformed(_))));
}

#[test]
fn heads_survive_the_wire_without_what_belongs_to_a_connection() {
    let mut writer = HeadWriter::new();
    let mut decoder = Decoder::new(4096);
    let mut head = RequestHead { method: "PUT".into(), target: "/x".into(), ..RequestHead::default() };
    for (name, value) in [
        ("Host", "a:1"),
        ("User-Agent", "b"),
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "gzip"),
        ("te", "trailers"),
        ("Content-Length", "3"),
    ] {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head.fields.push_sensitive(b"X-Secret", b"s");
    for _ in 0..3 {
        assert_eq!(writer.request(&head), Some(3));
        let mut read = RequestHead::default();
        let mut reader = RequestReader::new(&mut read, LIMITS);
        decoder.decode(&writer.block, &mut reader).unwrap();
        assert_eq!(reader.finish(true), Ok(Some(3)));
        assert_eq!(
            (read.method.as_str(), read.scheme.as_str(), read.authority.as_str(), read.target.as_str()),
            ("PUT", "http", "a:1", "/x")
        );
        let fields: Vec<_> = read.fields.iter_sensitive().collect();
        assert_eq!(
            fields,
            [
                (&b"user-agent"[..], &b"b"[..], false),
                (b"te", b"trailers", false),
                (b"content-length", b"3", false),
                (b"x-secret", b"s", true),
            ]
        );
    }
}

#[test]
fn every_status_survives_the_wire() {
    let mut writer = HeadWriter::new();
    let mut decoder = Decoder::new(4096);
    for status in (100..1000).filter(|status| *status != 101) {
        writer.response(&ResponseHead { status, ..ResponseHead::default() });
        let mut read = ResponseHead::default();
        let mut reader = ResponseReader::new(&mut read, LIMITS);
        decoder.decode(&writer.block, &mut reader).unwrap();
        reader.finish().unwrap();
        assert_eq!(read.status, status);
    }
}
