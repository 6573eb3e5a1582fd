use super::*;

fn request(version: Version, fields: &[(&str, &str)]) -> Result<Framing, Fault> {
    Framing::of_request(&RequestHead {
        version,
        fields: fields.iter().copied().collect(),
        ..RequestHead::default()
    })
}

fn response(status: u16, method: &str, fields: &[(&str, &str)]) -> Result<Framing, Fault> {
    let head = ResponseHead { status, fields: fields.iter().copied().collect(), ..ResponseHead::default() };
    Framing::of_response(&head, method)
}

const CL: &str = "Content-Length";
const TE: &str = "transfer-encoding";

/// The ways in which two servers disagree about where a request ends, and what becomes of each.
#[test]
fn a_request_ends_where_everybody_thinks_it_ends() {
    for (name, fields, outcome) in [
        ("no body", &[][..], Ok(Framing::None)),
        ("CL", &[(CL, "5")], Ok(Framing::Length(5))),
        ("CL.0", &[(CL, "0")], Ok(Framing::Length(0))),
        ("leading zeros", &[(CL, "005")], Ok(Framing::Length(5))),
        ("largest", &[(CL, "18446744073709551615")], Ok(Framing::Length(u64::MAX))),
        ("TE", &[(TE, "chunked")], Ok(Framing::Chunked)),
        ("TE in capitals", &[(TE, "CHUNKED")], Ok(Framing::Chunked)),
        ("CL.TE", &[(CL, "6"), (TE, "chunked")], Err(Fault::LengthAndCoding)),
        ("TE.CL", &[(TE, "chunked"), (CL, "6")], Err(Fault::LengthAndCoding)),
        ("TE.CL with an unknown coding", &[(TE, "x"), (CL, "6")], Err(Fault::LengthAndCoding)),
        ("TE.CL with an empty coding", &[(TE, ""), (CL, "6")], Err(Fault::LengthAndCoding)),
        ("TE.TE", &[(TE, "chunked"), (TE, "chunked")], Err(Fault::Coding)),
        ("TE.TE in a list", &[(TE, "chunked, chunked")], Err(Fault::Coding)),
        ("TE.TE, one unknown behind", &[(TE, "chunked"), (TE, "x")], Err(Fault::Coding)),
        ("TE.TE, one unknown before", &[(TE, "x"), (TE, "chunked")], Err(Fault::CodingUnknown)),
        ("TE with identity", &[(TE, "identity")], Err(Fault::CodingUnknown)),
        ("TE with identity and chunked", &[(TE, "identity, chunked")], Err(Fault::CodingUnknown)),
        ("TE with gzip", &[(TE, "gzip, chunked")], Err(Fault::CodingUnknown)),
        ("TE with chunked not last", &[(TE, "chunked, gzip")], Err(Fault::Coding)),
        ("TE nearly chunked", &[(TE, "xchunked")], Err(Fault::CodingUnknown)),
        ("TE in quotes", &[(TE, "\"chunked\"")], Err(Fault::CodingUnknown)),
        ("TE with a parameter", &[(TE, "chunked;q=1")], Err(Fault::CodingUnknown)),
        ("TE empty", &[(TE, "")], Err(Fault::Coding)),
        ("TE with an empty member", &[(TE, ",chunked")], Err(Fault::Coding)),
        ("TE with an empty member behind", &[(TE, "chunked,")], Err(Fault::Coding)),
        ("TE with other white space", &[(TE, "chunk\u{a0}ed")], Err(Fault::CodingUnknown)),
        ("two CL", &[(CL, "5"), (CL, "6")], Err(Fault::LengthTwice)),
        ("two equal CL", &[(CL, "5"), ("content-length", "5")], Err(Fault::LengthTwice)),
        ("CL in a list", &[(CL, "5, 5")], Err(Fault::Length)),
        ("CL with a sign", &[(CL, "+5")], Err(Fault::Length)),
        ("negative CL", &[(CL, "-5")], Err(Fault::Length)),
        ("CL in hexadecimal", &[(CL, "0x5")], Err(Fault::Length)),
        ("CL with a fraction", &[(CL, "5.0")], Err(Fault::Length)),
        ("CL with a space", &[(CL, "5 6")], Err(Fault::Length)),
        ("CL empty", &[(CL, "")], Err(Fault::Length)),
        ("CL in other digits", &[(CL, "٥")], Err(Fault::Length)),
        ("CL overflows", &[(CL, "18446744073709551616")], Err(Fault::Length)),
        ("CL overflows twice", &[(CL, "36893488147419103237")], Err(Fault::Length)),
    ] {
        assert_eq!(request(Version::Http11, fields), outcome, "{name}");
    }
    assert_eq!(request(Version::Http10, &[(CL, "5")]), Ok(Framing::Length(5)));
    assert_eq!(request(Version::Http10, &[(TE, "chunked")]), Err(Fault::CodingInHttp10));
}

#[test]
fn a_response_ends_by_its_status_before_its_fields() {
    for (status, method, fields, outcome) in [
        (200, "GET", &[][..], Ok(Framing::UntilClose)),
        (200, "GET", &[(CL, "5")], Ok(Framing::Length(5))),
        (200, "GET", &[(TE, "chunked")], Ok(Framing::Chunked)),
        (200, "HEAD", &[], Ok(Framing::None)),
        (200, "HEAD", &[(CL, "5")], Ok(Framing::None)),
        (200, "HEAD", &[(TE, "chunked")], Ok(Framing::None)),
        (100, "POST", &[], Ok(Framing::None)),
        (101, "GET", &[], Ok(Framing::None)),
        (103, "GET", &[(CL, "5")], Ok(Framing::None)),
        (204, "GET", &[(CL, "5")], Ok(Framing::None)),
        (204, "GET", &[(TE, "chunked")], Ok(Framing::None)),
        (205, "GET", &[(CL, "0")], Ok(Framing::Length(0))),
        (304, "GET", &[(CL, "5")], Ok(Framing::None)),
        (200, "CONNECT", &[(CL, "5")], Ok(Framing::None)),
        (400, "CONNECT", &[(CL, "5")], Ok(Framing::Length(5))),
        (200, "GET", &[(CL, "5"), (TE, "chunked")], Err(Fault::LengthAndCoding)),
        (200, "GET", &[(CL, "5"), (CL, "5")], Err(Fault::LengthTwice)),
        (200, "GET", &[(TE, "gzip")], Err(Fault::CodingUnknown)),
        (304, "GET", &[(CL, "x")], Err(Fault::Length)),
    ] {
        assert_eq!(response(status, method, fields), outcome, "{status} {method} {fields:?}");
    }
}

#[test]
fn a_client_gets_the_framing_that_it_knows() {
    for (framing, version, expected) in [
        (Framing::Chunked, Version::Http10, Framing::UntilClose),
        (Framing::Chunked, Version::Http11, Framing::Chunked),
        (Framing::UntilClose, Version::Http10, Framing::UntilClose),
        (Framing::UntilClose, Version::Http11, Framing::Chunked),
        (Framing::Length(3), Version::Http10, Framing::Length(3)),
        (Framing::None, Version::Http11, Framing::None),
    ] {
        assert_eq!(framing.toward(version), expected);
    }
}

#[test]
fn a_connection_persists_by_version_and_option() {
    for (version, connection, expected) in [
        (Version::Http11, "", true),
        (Version::Http11, "close", false),
        (Version::Http11, "upgrade, Close", false),
        (Version::Http10, "", false),
        (Version::Http10, "Keep-Alive", true),
        (Version::Http10, "keep-alive, close", false),
        (Version::Http2, "", true),
    ] {
        let fields = [("Connection", connection)].into_iter().collect();
        assert_eq!(persists(version, &fields), expected, "{version:?} {connection}");
    }
}
