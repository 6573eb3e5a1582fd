//! HTTP/1: heads, chunked bodies, and whole connections.

use svidecar::{
    http1::{Connection, Framing, HeadError, Limits, chunked as codec, parse, write},
    io::Buffer,
    message::{BodySource, Fields, Part, RequestHead, ResponseHead, Version},
};

use super::script::{Script, ready};

const LIMITS: Limits = Limits { bytes: 4096, fields: 16 };
const NONE: Limits = Limits { bytes: usize::MAX, fields: usize::MAX };

/// A request's head that is accepted is read by others just so, and what is written of it reads the same and is framed the
/// same. A part of it never is another head.
pub fn request_head(data: &[u8]) {
    let mut head = RequestHead::default();
    let whole = parse::request(data, LIMITS, &mut head);
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        let mut part = RequestHead::default();
        match parse::request(&data[..cut], LIMITS, &mut part) {
            Ok(None) => {}
            outcome => assert_eq!((outcome, part), (whole, head.clone())),
        }
    }
    let Ok(Some(size)) = whole else { return };
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(data), Ok(httparse::Status::Complete(size)));
    assert_eq!(theirs.method, Some(head.method.as_str()));
    assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
    if head.authority.is_empty() {
        assert_eq!(theirs.path, Some(head.target.as_str()));
        assert!(
            theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value)).eq(head.fields.iter())
        );
    } else {
        // The authority wins over the field.
        assert_eq!(head.fields.get("host").unwrap_or(head.authority.as_bytes()), head.authority.as_bytes());
    }
    let Ok(framing) = Framing::of_request(&head) else { return };
    let mut out = Buffer::new();
    write::request(&head, framing, &mut out);
    let mut again = RequestHead::default();
    assert_eq!(parse::request(out.filled(), NONE, &mut again), Ok(Some(out.len())));
    assert_eq!(Framing::of_request(&again), Ok(framing));
    assert_eq!((&again.method, &again.target, &again.fields), (&head.method, &head.target, &head.fields));
}

/// The same for a response's head.
pub fn response_head(data: &[u8]) {
    let mut head = ResponseHead::default();
    let whole = parse::response(data, LIMITS, &mut head);
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        let mut part = ResponseHead::default();
        match parse::response(&data[..cut], LIMITS, &mut part) {
            Ok(None) => {}
            outcome => assert_eq!((outcome, part), (whole, head.clone())),
        }
    }
    let Ok(Some(size)) = whole else { return };
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut theirs = httparse::Response::new(&mut fields);
    assert_eq!(theirs.parse(data), Ok(httparse::Status::Complete(size)));
    assert_eq!(theirs.code, Some(head.status));
    assert!(theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value)).eq(head.fields.iter()));
    for method in ["GET", "HEAD", "CONNECT"] {
        let Ok(framing) = Framing::of_response(&head, method) else { continue };
        let mut out = Buffer::new();
        write::response(&head, framing, &mut out);
        let mut again = ResponseHead::default();
        assert_eq!(parse::response(out.filled(), NONE, &mut again), Ok(Some(out.len())));
        assert_eq!((again.status, &again.reason), (head.status, &head.reason));
        assert_eq!(Framing::of_response(&again, method), Ok(framing));
    }
}

/// A chunked body says the same in whatever pieces it comes, and what is encoded of it again says it, too.
pub fn chunked(data: &[u8]) {
    let Some((&piece, body)) = data.split_first() else { return };
    let whole = decode(&[body]);
    let pieces: Vec<_> = body.chunks(usize::from(piece).max(1)).collect();
    assert_eq!(decode(&pieces), whole);
    let Some(decoded) = whole.filter(|decoded| decoded.done) else { return };
    let (mut encoder, mut out) = (codec::Encoder::default(), Buffer::new());
    let mut rest = decoded.data.as_slice();
    for size in &decoded.chunks {
        let count = encoder.open(rest.len(), Some(*size), &mut out);
        assert_eq!(count as u64, *size);
        out.extend(&rest[..count]);
        encoder.sent(count, &mut out);
        rest = &rest[count..];
    }
    assert!(rest.is_empty());
    encoder.end(Some(&decoded.trailers), &mut out).expect("all chunks are complete");
    let again = decode(&[out.filled()]).expect("what is written can be read");
    assert_eq!(again, Decoded { rest: Vec::new(), ..decoded });
}

/// What came of a chunked body.
#[derive(Debug, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    chunks: Vec<u64>,
    trailers: Fields,
    rest: Vec<u8>,
    done: bool,
}

fn decode(pieces: &[&[u8]]) -> Option<Decoded> {
    let mut decoded = Decoded {
        data: Vec::new(),
        chunks: Vec::new(),
        trailers: Fields::new(),
        rest: Vec::new(),
        done: false,
    };
    let (mut decoder, mut buffer) = (codec::Decoder::default(), Buffer::new());
    for piece in pieces {
        buffer.extend(piece);
        loop {
            match decoder.step(&mut buffer, LIMITS, &mut decoded.trailers).ok()? {
                codec::Step::More => break,
                codec::Step::End => {
                    decoded.done = true;
                    break;
                }
                codec::Step::Data { chunk, len } => {
                    decoded.chunks.extend(chunk);
                    decoded.data.extend_from_slice(&buffer.filled()[..len]);
                    buffer.consume(len);
                    decoder.took(len);
                }
            }
        }
    }
    if decoded.done {
        decoded.rest.extend_from_slice(buffer.filled());
    } else {
        decoded.trailers.clear();
    }
    Some(decoded)
}

/// A connection with any number of requests is cut into the same requests in whatever pieces its bytes come.
pub fn requests(data: &[u8]) {
    let Some((pieces, bytes)) = data.split_first_chunk::<4>() else { return };
    let whole = read_all(Script::new(bytes.to_vec(), &[]));
    let parts = read_all(Script::new(bytes.to_vec(), pieces));
    assert_eq!(whole, parts);
}

/// All requests of a connection with their bodies and trailers, and how it ended.
fn read_all(script: Script) -> (Vec<(RequestHead, Vec<u8>, Fields)>, String) {
    let mut connection = Connection::new(script, LIMITS);
    let mut requests = Vec::new();
    loop {
        let mut head = RequestHead::default();
        match ready(|cx| connection.poll_request_head(cx, &mut head)) {
            Ok(true) => {}
            Ok(false) => return (requests, "the end".into()),
            // How much there was when the connection broke off depends on when one looks.
            Err(HeadError::Refused(fault)) => return (requests, fault.to_string()),
            Err(error) => return (requests, error.to_string()),
        }
        let Ok(framing) = Framing::of_request(&head) else { return (requests, "no framing".into()) };
        connection.receive_body(framing);
        let (mut body, mut trailers) = (Vec::new(), Fields::new());
        loop {
            match ready(|cx| connection.poll_part(cx)) {
                Ok(Part::Data { .. }) => {
                    // Taken in two goes, as by a writer that is slower.
                    let count = connection.data().len().div_ceil(2);
                    body.extend_from_slice(&connection.data()[..count]);
                    connection.consume(count);
                }
                Ok(Part::Trailers) => trailers = connection.trailers().clone(),
                Ok(Part::End) => break,
                Err(error) => return (requests, error.to_string()),
            }
        }
        requests.push((head, body, trailers));
    }
}
