use proptest::prelude::*;

use super::*;

/// What came of a body: its bytes, the sizes of the chunks that were told, the trailers, and what was left.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    chunks: Vec<u64>,
    trailers: Fields,
    rest: Vec<u8>,
    done: bool,
}

/// Decodes bytes that come in pieces.
fn decode<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Decoded, Fault> {
    let (mut decoder, mut buffer, mut decoded) = (Decoder::default(), Buffer::new(), Decoded::default());
    let limits = Limits { bytes: 256, fields: 4 };
    for piece in pieces {
        buffer.extend(piece);
        loop {
            match decoder.step(&mut buffer, limits, &mut decoded.trailers)? {
                Step::More => break,
                Step::End => {
                    decoded.done = true;
                    break;
                }
                Step::Data { chunk, len } => {
                    decoded.chunks.extend(chunk);
                    decoded.data.extend_from_slice(&buffer.filled()[..len]);
                    buffer.consume(len);
                    decoder.took(len);
                }
            }
        }
    }
    decoded.rest = buffer.filled().to_vec();
    Ok(decoded)
}

#[test]
fn chunks_keep_their_bounds_and_lose_their_extensions() {
    let body = b"5\r\nhello\r\n00A;name=\"va;lue\"\r\n0123456789\r\n1 \t\r\nx\r\n0;x\r\nX-Sum: 1\r\nHost: evil\r\n\r\nGET /";
    let decoded = decode([&body[..]]).unwrap();
    assert_eq!(decoded.data, b"hello0123456789x");
    assert_eq!(decoded.chunks, [5, 10, 1]);
    assert_eq!(decoded.trailers, [("X-Sum", "1")].into_iter().collect());
    assert_eq!((decoded.rest.as_slice(), decoded.done), (&b"GET /"[..], true));
}

#[test]
fn a_body_may_come_in_any_two_pieces_and_byte_by_byte() {
    let body = b"3\r\nabc\r\nf;ext\r\n0123456789abcde\r\n0\r\nA: b\r\n\r\n";
    let whole = decode([&body[..]]).unwrap();
    assert!(whole.done);
    for split in 0..body.len() {
        let (first, second) = body.split_at(split);
        assert_eq!(decode([first, second]).unwrap(), whole, "at {split}");
        let cut = decode([first]).unwrap();
        assert!(!cut.done, "at {split}");
    }
    assert_eq!(decode(body.chunks(1)).unwrap(), whole);
}

/// The ways in which two servers disagree about where a chunk ends.
#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    for (body, fault) in [
        ("\r\n", Fault::ChunkSize),
        ("x\r\n", Fault::ChunkSize),
        (" 5\r\nhello\r\n", Fault::ChunkSize),
        ("+5\r\nhello\r\n", Fault::ChunkSize),
        ("-1\r\nhello\r\n", Fault::ChunkSize),
        ("0x5\r\nhello\r\n", Fault::ChunkSize),
        ("5 5\r\nhello\r\n", Fault::ChunkSize),
        ("5,\r\nhello\r\n", Fault::ChunkSize),
        ("00000000000000005\r\nhello\r\n", Fault::ChunkSize),
        ("10000000000000000\r\n", Fault::ChunkSize),
        ("fffffffffffffffff\r\n", Fault::ChunkSize),
        ("5\nhello\r\n", Fault::ChunkSize),
        ("5\rhello\r\n", Fault::ChunkLine),
        ("5\r\rhello\r\n", Fault::ChunkLine),
        ("5;\nhello\r\n", Fault::ChunkLine),
        ("5;a\rb\r\nhello\r\n", Fault::ChunkLine),
        ("5;a\0b\r\nhello\r\n", Fault::ChunkLine),
        ("5\r\nhello0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\rX0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhelloXX0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\r\n\r\n", Fault::ChunkSize),
        ("0\r\nA : b\r\n\r\n", Fault::FieldName),
        ("0\r\nA: b\n\n", Fault::LineEnd),
        ("0\r\n A: b\r\n\r\n", Fault::Folded),
        ("0\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\n\r\n", Fault::TrailersTooLarge),
    ] {
        assert_eq!(decode([body.as_bytes()]).unwrap_err(), fault, "{body:?}");
    }
    let long = format!("5;{}", "x".repeat(LONGEST_LINE));
    assert_eq!(decode([long.as_bytes()]).unwrap_err(), Fault::ChunkLine);
    let long = format!("0\r\nA: {}", "x".repeat(256));
    assert_eq!(decode([long.as_bytes()]).unwrap_err(), Fault::TrailersTooLarge);
}

/// A size at which a reader with 32 bits wraps around is read right, and never written.
#[test]
fn bounds_that_overflow_elsewhere_are_not_kept() {
    for (size, kept) in
        [("7fffffff", Some(0x7fff_ffff)), ("80000000", None), ("100000000", None), ("ffffffffffffffff", None)]
    {
        let mut buffer = Buffer::new();
        buffer.extend(format!("{size}\r\nabc").as_bytes());
        let step = Decoder::default().step(&mut buffer, Limits::default(), &mut Fields::new());
        assert_eq!(step, Ok(Step::Data { chunk: kept, len: 3 }), "{size}");
    }
}

#[test]
fn what_frames_or_routes_never_leaves_in_trailers() {
    let trailers: Fields =
        [("X-Sum", "1"), ("Transfer-Encoding", "chunked"), ("content-length", "5"), ("HOST", "x")]
            .into_iter()
            .collect();
    let mut out = Buffer::new();
    Encoder::default().end(Some(&trailers), &mut out).unwrap();
    assert_eq!(out.filled(), b"0\r\nX-Sum: 1\r\n\r\n");
}

#[test]
fn an_open_chunk_cannot_end_the_body() {
    let (mut encoder, mut out) = (Encoder::default(), Buffer::new());
    assert_eq!(encoder.open(3, Some(5), &mut out), 3);
    encoder.sent(3, &mut out);
    assert_eq!(encoder.end(None, &mut out), Err(Fault::BodyTooShort));
    assert_eq!(encoder.open(4, None, &mut out), 2, "the rest is of another chunk");
    encoder.sent(2, &mut out);
    assert_eq!(encoder.end(None, &mut out), Ok(()));
    assert_eq!(out.filled(), b"5\r\n\r\n0\r\n\r\n");
}

proptest! {
    /// What is encoded in chunks of any size is decoded from pieces of any size, and the bounds stay.
    #[test]
    fn decoding_undoes_encoding(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
        taken in 1_usize..20,
        pieces in 1_usize..50,
    ) {
        let (mut encoder, mut out) = (Encoder::default(), Buffer::new());
        for chunk in &chunks {
            let (mut rest, mut size) = (chunk.as_slice(), Some(chunk.len() as u64));
            while !rest.is_empty() {
                let count = encoder.open(rest.len(), size.take(), &mut out).min(taken);
                out.extend(&rest[..count]);
                encoder.sent(count, &mut out);
                rest = &rest[count..];
            }
        }
        encoder.end(None, &mut out).unwrap();
        let decoded = decode(out.filled().chunks(pieces)).unwrap();
        prop_assert!(decoded.done && decoded.rest.is_empty());
        prop_assert_eq!(decoded.data, chunks.concat());
        let sizes: Vec<_> = chunks.iter().map(|chunk| chunk.len() as u64).collect();
        prop_assert_eq!(decoded.chunks, sizes);
    }

    /// No bytes make it panic, or read data that the framing does not hold.
    #[test]
    fn any_bytes_have_an_outcome(bytes in "[0-9a-f\r\n; ]{0,60}") {
        if let Ok(decoded) = decode([bytes.as_bytes()]) {
            prop_assert!(decoded.data.len() + decoded.rest.len() <= bytes.len());
        }
    }
}
