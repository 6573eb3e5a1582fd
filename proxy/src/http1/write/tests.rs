use super::*;

fn text(buffer: &Buffer) -> String {
    String::from_utf8(buffer.filled().to_vec()).unwrap()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().copied().collect()
}

#[test]
fn a_request_is_written_as_it_was_read() {
    let lines = "PoST /a?b HTTP/1.1\r\nhOsT: h\r\nX-One: 1\r\ncontent-LENGTH: 3\r\nx-one: 2\r\n\r\n";
    let mut head = RequestHead::default();
    crate::http1::parse::request(lines.as_bytes(), crate::http1::Limits::default(), &mut head).unwrap();
    let mut out = Buffer::new();
    request(&head, Framing::Length(3), &mut out);
    assert_eq!(text(&out), lines);
}

#[test]
fn the_framing_that_is_used_is_the_one_that_is_stated() {
    const CL: &str = "Content-Length: 5\r\n";
    const TE: &str = "Transfer-Encoding: chunked\r\n";
    for (stated, framing, expected) in [
        (&[][..], Framing::None, ""),
        (&[], Framing::Length(5), CL),
        (&[], Framing::Chunked, TE),
        (&[], Framing::Length(u64::MAX), "Content-Length: 18446744073709551615\r\n"),
        (&[("content-length", "5")], Framing::Length(5), "content-length: 5\r\n"),
        (&[("content-length", "6")], Framing::Length(5), CL),
        (&[("content-length", "5"), ("content-length", "5")], Framing::Length(5), CL),
        (&[("content-length", "5")], Framing::Chunked, TE),
        (&[("content-length", "5")], Framing::None, ""),
        (&[("TRANSFER-encoding", "Chunked")], Framing::Chunked, "TRANSFER-encoding: Chunked\r\n"),
        (&[("Transfer-Encoding", "gzip, chunked")], Framing::Chunked, TE),
        (&[("transfer-encoding", "chunked"), ("content-length", "5")], Framing::Chunked, TE),
        (&[("transfer-encoding", "chunked"), ("content-length", "5")], Framing::Length(5), CL),
        (&[("transfer-encoding", "chunked")], Framing::None, ""),
    ] {
        let mut head = RequestHead { method: "PUT".into(), target: "/".into(), ..RequestHead::default() };
        head.fields = fields(stated);
        let mut out = Buffer::new();
        request(&head, framing, &mut out);
        assert_eq!(text(&out), format!("PUT / HTTP/1.1\r\n{expected}\r\n"), "{stated:?} {framing:?}");
    }
}

#[test]
fn a_target_that_has_no_path_is_its_authority() {
    let head = RequestHead { method: "CONNECT".into(), authority: "h:1".into(), ..RequestHead::default() };
    let mut out = Buffer::new();
    request(&head, Framing::None, &mut out);
    assert_eq!(text(&out), "CONNECT h:1 HTTP/1.1\r\n\r\n");
}

#[test]
fn a_response_keeps_its_words_and_a_length_without_a_body() {
    for (version, status, reason, stated, framing, expected) in [
        (Version::Http11, 200, "Fine", &[][..], Framing::UntilClose, "HTTP/1.1 200 Fine\r\n\r\n"),
        (Version::Http11, 200, "", &[], Framing::None, "HTTP/1.1 200 \r\n\r\n"),
        (Version::Http10, 299, "x", &[], Framing::None, "HTTP/1.0 299 x\r\n\r\n"),
        (Version::Http2, 799, "x", &[], Framing::None, "HTTP/1.1 799 x\r\n\r\n"),
        (
            Version::Http11,
            304,
            "",
            &[("Content-Length", "5")],
            Framing::None,
            "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n",
        ),
        (Version::Http11, 204, "", &[("Content-Length", "5")], Framing::None, "HTTP/1.1 204 \r\n\r\n"),
        (
            Version::Http11,
            103,
            "",
            &[("Content-Length", "5"), ("Link", "x")],
            Framing::None,
            "HTTP/1.1 103 \r\nLink: x\r\n\r\n",
        ),
        (
            Version::Http11,
            200,
            "",
            &[("Transfer-Encoding", "chunked")],
            Framing::None,
            "HTTP/1.1 200 \r\n\r\n",
        ),
        (
            Version::Http11,
            200,
            "",
            &[("Transfer-Encoding", "chunked"), ("A", "b")],
            Framing::UntilClose,
            "HTTP/1.1 200 \r\nA: b\r\n\r\n",
        ),
    ] {
        let head = ResponseHead { version, status, reason: reason.into(), fields: fields(stated) };
        let mut out = Buffer::new();
        response(&head, framing, &mut out);
        assert_eq!(text(&out), expected);
    }
}

#[test]
fn numbers_are_written_without_the_formatter() {
    for number in [0, 1, 9, 10, 15, 16, 255, 1234, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(Number::decimal(number).text(), number.to_string().as_bytes());
        assert_eq!(Number::hexadecimal(number).text(), format!("{number:x}").as_bytes());
    }
}
