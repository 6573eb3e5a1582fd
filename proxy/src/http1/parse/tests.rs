use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> Result<Option<RequestHead>, Fault> {
    let mut head = RequestHead::default();
    let size = request(text, Limits::default(), &mut head)?;
    Ok(size.map(|size| {
        assert_eq!(size, text.len(), "the whole head, and no more");
        head
    }))
}

fn read_response(text: &[u8]) -> Result<Option<ResponseHead>, Fault> {
    let mut head = ResponseHead::default();
    Ok(response(text, Limits::default(), &mut head)?.map(|_| head))
}

#[test]
fn a_request_is_read_as_it_is_written() {
    let head = read(b"POST /a?b=c HTTP/1.1\r\nHost: h:80\r\nX-Odd:\t v\twith tab \r\nx-Empty:\r\nX-UTF: \xc3\xa9\r\nAccept: */*\r\n\r\n");
    let head = head.unwrap().unwrap();
    assert_eq!(
        (head.method.as_str(), head.target.as_str(), head.version),
        ("POST", "/a?b=c", Version::Http11)
    );
    let fields: Vec<_> = head.fields.iter().collect();
    let expected: [(&[u8], &[u8]); 5] = [
        (b"Host", b"h:80"),
        (b"X-Odd", b"v\twith tab"),
        (b"x-Empty", b""),
        (b"X-UTF", "é".as_bytes()),
        (b"Accept", b"*/*"),
    ];
    assert_eq!(fields, expected);
    let lines: Vec<u8> = head.fields.lines().flatten().copied().collect();
    let expected = "Host: h:80\r\nX-Odd: v\twith tab\r\nx-Empty: \r\nX-UTF: é\r\nAccept: */*\r\n";
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}

/// What two servers might read differently, and what becomes of it. Framing has its own table.
#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (line, fault) in [
        // Line ends.
        ("GET / HTTP/1.1\nHost: h\r\n\r\n", Fault::LineEnd),
        ("GET / HTTP/1.1\r\nHost: h\n\r\n", Fault::LineEnd),
        ("GET / HTTP/1.1\r\nHost: h\r\n\n", Fault::LineEnd),
        ("GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", Fault::LineEnd),
        ("GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", Fault::LineEnd),
        ("GET / HTTP/1.1\r\nHost: h\r\n\rX\r\n\r\n", Fault::LineEnd),
        ("GET / HTTP/1.1\rHost: h\r\n\r\n", Fault::LineEnd),
        ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::LineEnd),
        ("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::LineEnd),
        // Control characters.
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", Fault::Control),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\x0bb\r\n\r\n", Fault::Control),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n", Fault::Control),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Fault::Control),
        // Folded fields.
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", Fault::Folded),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n", Fault::Folded),
        ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", Fault::Folded),
        ("GET / HTTP/1.1\r\n\r\n", Fault::NoHost),
        // Names.
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 3\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding\t: chunked\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\nNoColon\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\nN\0: v\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\nN\u{e9}: v\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\n\"N\": v\r\n\r\n", Fault::FieldName),
        // Request lines.
        ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::RequestLine),
        ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", Fault::RequestLine),
        ("GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", Fault::RequestLine),
        (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", Fault::RequestLine),
        ("GET / x HTTP/1.1\r\nHost: h\r\n\r\n", Fault::RequestLine),
        ("GET / http/1.1\r\nHost: h\r\n\r\n", Fault::RequestLine),
        ("GET /\r\n", Fault::RequestLine),
        ("GET\r\n\r\n", Fault::RequestLine),
        ("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::RequestLine),
        ("\x16\x03\x01\x02", Fault::RequestLine),
        ("GET / HTTP/11\r\n\r\n", Fault::RequestLine),
        ("INVALID CONNECTION PREFACE\r\n\r\n", Fault::NotHttp),
        ("PRI * HTP/2.0\r\n\r\n", Fault::NotHttp),
        ("GET / \r\n\r\n", Fault::NotHttp),
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", Fault::Version),
        ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", Fault::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::Version),
        // Targets.
        ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
        ("GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
        ("GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
        ("GET /a\x7fb HTTP/1.1\r\nHost: h\r\n\r\n", Fault::Target),
        ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("OPTIONS *x HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("GET http://user@h/a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("GET http://h\\x/a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("GET http:/a HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        ("CONNECT http://h:1/ HTTP/1.1\r\nHost: h\r\n\r\n", Fault::TargetForm),
        // Hosts.
        ("GET / HTTP/1.1\r\nX: y\r\n\r\n", Fault::NoHost),
        ("GET http://h/ HTTP/1.1\r\n\r\n", Fault::NoHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Fault::SeveralHosts),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Fault::SeveralHosts),
        ("GET http://h/ HTTP/1.1\r\nHost: a\r\nHOST: b\r\n\r\n", Fault::SeveralHosts),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a:8:0\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: []:80\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", Fault::Host),
    ] {
        let outcome = read(line.as_bytes());
        assert_eq!(outcome.unwrap_err(), fault, "{line:?}");
    }
    assert_eq!(read(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n").unwrap_err(), Fault::Target);
}

#[test]
fn targets_are_brought_into_one_form() {
    for (request, authority, target, host) in [
        ("GET /a?b HTTP/1.1\r\nHost: h", "", "/a?b", "h"),
        ("GET //a HTTP/1.1\r\nHost: h", "", "//a", "h"),
        ("GET /é HTTP/1.1\r\nHost: h", "", "/é", "h"),
        ("GET / HTTP/1.0", "", "/", ""),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: h", "", "/", "h"),
        ("OPTIONS * HTTP/1.1\r\nHost: h", "", "*", "h"),
        ("OPTIONS http://h HTTP/1.1\r\nHost: h", "h", "*", "h"),
        ("OPTIONS http://h/ HTTP/1.1\r\nHost: h", "h", "/", "h"),
        ("GET http://h HTTP/1.1\r\nHost: h", "h", "/", "h"),
        ("GET HTTPS://h:1?q=/ HTTP/1.1\r\nHost: h", "h:1", "/?q=/", "h:1"),
        ("GET http://real/a HTTP/1.1\r\nHOST: other", "real", "/a", "real"),
        ("GET http://real/a HTTP/1.0", "real", "/a", "real"),
        ("CONNECT h:443 HTTP/1.1\r\nHost: other", "h:443", "", "h:443"),
        ("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443", "[::1]:443", "", "[::1]:443"),
        ("GET / HTTP/1.1\r\nHost: [fe80::1]", "", "/", "[fe80::1]"),
        ("GET / HTTP/1.1\r\nHost: under_score.internal:65535", "", "/", "under_score.internal:65535"),
    ] {
        let head = read(format!("{request}\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!((head.authority.as_str(), head.target.as_str()), (authority, target), "{request}");
        assert_eq!(head.host().unwrap_or_default(), host, "{request}");
        if let Some(field) = head.fields.get("host") {
            assert_eq!(field, host.as_bytes(), "{request}");
        }
    }
}

#[test]
fn a_response_is_read_as_it_is_written() {
    for (line, version, status, reason) in [
        ("HTTP/1.1 200 OK", Version::Http11, 200, "OK"),
        ("HTTP/1.0 404 Not  Found ", Version::Http10, 404, "Not  Found "),
        ("HTTP/1.1 204 ", Version::Http11, 204, ""),
        ("HTTP/1.1 999", Version::Http11, 999, ""),
        ("HTTP/1.1 100 \u{e9}\t", Version::Http11, 100, "\u{e9}\t"),
    ] {
        let head = read_response(format!("{line}\r\nA: b\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!((head.version, head.status), (version, status), "{line}");
        assert_eq!(head.reason, reason.as_bytes());
        assert_eq!(head.fields.get("a").unwrap(), b"b");
    }
    for (text, fault) in [
        ("HTTP/2.0 200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 +20 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1  200 OK\r\n\r\n", Fault::StatusLine),
        ("http/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        ("ICY 200 OK\r\n\r\n", Fault::StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 200 OK\n\n", Fault::LineEnd),
        ("HTTP/1.1 200 O\0K\r\n\r\n", Fault::Control),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Fault::Folded),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Fault::FieldName),
    ] {
        assert_eq!(read_response(text.as_bytes()).unwrap_err(), fault, "{text:?}");
    }
}

#[test]
fn heads_have_a_largest_size_and_a_largest_number_of_fields() {
    let limits = Limits { bytes: 64, fields: 2 };
    let mut head = RequestHead::default();
    let mut outcome_of = |text: &[u8]| request(text, limits, &mut head);
    let padded = |size: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\nHost: h\r\nX: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()))
    };
    assert_eq!(outcome_of(padded(64).as_bytes()), Ok(Some(64)));
    assert_eq!(outcome_of(padded(65).as_bytes()), Err(Fault::HeadTooLarge));
    assert_eq!(outcome_of(&padded(80).as_bytes()[..63]), Ok(None));
    assert_eq!(outcome_of(&padded(80).as_bytes()[..64]), Err(Fault::HeadTooLarge));
    let mut outcome = |text: &str| outcome_of(text.as_bytes());
    assert_eq!(outcome(&format!("GET /{}", "x".repeat(58))), Ok(None));
    assert_eq!(outcome(&format!("GET /{}", "x".repeat(59))), Err(Fault::TargetTooLong));
    assert_eq!(outcome("GET / HTTP/1.1\r\nHost: h\r\nA:\r\n\r\n"), Ok(Some(31)));
    assert_eq!(outcome("GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB:\r\n"), Err(Fault::TooManyFields));
    assert_eq!(outcome(&"\r\n".repeat(32)), Err(Fault::TargetTooLong));
}

#[test]
fn trailers_are_fields_and_an_empty_line() {
    let limits = Limits { bytes: 32, fields: 2 };
    let mut fields = Fields::new();
    let mut outcome = |text: &str| trailers(text.as_bytes(), limits, &mut fields);
    assert_eq!(outcome("\r\n"), Ok(Some(2)));
    assert_eq!(outcome("A: b\r\n\r\nGET"), Ok(Some(8)));
    assert_eq!(outcome("A: b\r\n"), Ok(None));
    assert_eq!(outcome("A: b\r\nB:\r\nC:\r\n\r\n"), Err(Fault::TrailersTooLarge));
    assert_eq!(outcome(&format!("A: {}", "b".repeat(32))), Err(Fault::TrailersTooLarge));
    assert_eq!(outcome("A: b\n\n"), Err(Fault::LineEnd));
}

/// Wherever the bytes are split, what is there is incomplete, and the end is found by looking at the new bytes alone.
#[test]
fn a_head_may_come_in_any_two_pieces() {
    let whole = b"\r\nPOST /a HTTP/1.1\r\nHost: h\r\nA:\tb \r\nContent-Length: 3\r\n\r\n";
    let expected = read(whole).unwrap().unwrap();
    for split in 0..whole.len() {
        assert_eq!(read(&whole[..split]), Ok(None), "at {split}");
        assert!(may_be_complete(whole, split), "at {split}");
    }
    assert_eq!(read(whole).unwrap().unwrap(), expected);
    let text = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    for split in 0..text.len() {
        assert_eq!(read_response(&text[..split]), Ok(None), "at {split}");
    }
    assert!(may_be_complete(b"\r\n", 0) && may_be_complete(b"\r\n", 1) && !may_be_complete(b"A: b\r\n", 0));
}

#[test]
fn bytes_are_found_at_every_place() {
    for size in 0..40 {
        for at in 0..size {
            for byte in [0, 9, 10, 13, 0x1f, 0x7f] {
                for other in [b' ', b'a', 0x80, 0xff, 0xa0, 0x7e] {
                    let mut bytes = vec![other; size];
                    assert_eq!(find_below::<b' '>(&bytes), None);
                    bytes[at] = byte;
                    assert_eq!(find_below::<b' '>(&bytes), Some(at));
                }
            }
        }
    }
    assert_eq!(find_below::<b'!'>(b"0123456789 "), Some(10));
}

/// Text that is nearly a request, so that both outcomes are frequent.
fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => "[A-Za-z-]{1,12}: ?[ -~]{0,20}\r\n".prop_map(String::into_bytes),
        1 => "[A-Za-z-]{1,6}[ \t]?:[ \t]{0,3}[!-~\u{80}-\u{ff}]{0,8}[ \t]{0,3}(\r\n|\n|\r)".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => Just(b"\r\n".to_vec()),
    ];
    let line = prop_oneof![
        8 => "(GET|POST|OPTIONS|X-[A-Z]{1,3}) (/[!-~]{0,20}|\\*|http://[a-z]{1,5}(:[0-9]{1,3})?/[a-z]{0,5}) HTTP/1\\.[01]\r\nHost: [a-z.]{1,9}\r\n",
        1 => "[ -~]{0,30}\r\n",
    ];
    (line, proptest::collection::vec(piece, 0..8))
        .prop_map(|(line, pieces)| [line.into_bytes(), pieces.concat(), b"\r\n".to_vec()].concat())
}

proptest! {
    /// We accept nothing that httparse refuses, and of what both accept we read the same. What we refuse and it accepts is
    /// what this codec is strict about.
    #[test]
    fn what_is_accepted_is_read_as_httparse_reads_it(text in nearly_a_request()) {
        let mut ours = RequestHead::default();
        let Ok(Some(size)) = request(&text, Limits::default(), &mut ours) else { return Ok(()) };
        let mut storage = [httparse::EMPTY_HEADER; 128];
        let mut theirs = httparse::Request::new(&mut storage);
        prop_assert_eq!(theirs.parse(&text), Ok(httparse::Status::Complete(size)));
        prop_assert_eq!(theirs.method, Some(ours.method.as_str()));
        if ours.authority.is_empty() {
            prop_assert_eq!(theirs.path, Some(ours.target.as_str()));
            let fields = theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value));
            prop_assert!(fields.eq(ours.fields.iter()), "{:?}", ours);
        }
    }

    /// However the bytes are cut, and with whatever behind them, the outcome is the same.
    #[test]
    fn a_prefix_never_contradicts_the_whole(text in nearly_a_request(), cut in any::<prop::sample::Index>()) {
        let mut head = RequestHead::default();
        let whole = request(&text, Limits::default(), &mut head);
        let mut part = RequestHead::default();
        let cut = cut.index(text.len());
        match request(&text[..cut], Limits::default(), &mut part) {
            Ok(None) => {}
            Ok(Some(size)) => {
                prop_assert_eq!(whole, Ok(Some(size)));
                prop_assert_eq!(part, head);
            }
            Err(fault) => prop_assert_eq!(whole, Err(fault)),
        }
    }
}

#[test]
fn a_few_empty_lines_may_come_before_a_request_and_no_flood_of_them() {
    let mut head = RequestHead::default();
    let with = |lines: usize| "\r\n".repeat(lines) + "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (lines, read) in [(1, true), (32, true), (33, false), (1000, false)] {
        let outcome = request(with(lines).as_bytes(), Limits::default(), &mut head);
        assert_eq!(matches!(outcome, Ok(Some(_))), read, "{lines}");
    }
    assert_eq!(request(&b"\r\n".repeat(33), Limits::default(), &mut head), Err(Fault::RequestLine));
}
