use super::{
    super::frame::{flag, kind},
    support::*,
};
use crate::http2::{ErrorCode, Settings};

/// What a peer is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// Nothing: what it did is right, or to be ignored.
    Nothing,
    /// The stream is over.
    Reset(u32, ErrorCode),
    /// The connection is over.
    GoAway(ErrorCode),
}
use Told::{GoAway, Nothing, Reset};

fn told(raw: &mut Raw) -> Told {
    let frames = raw.frames();
    if let Some(code) = frames.iter().find_map(Frame::goaway) {
        return GoAway(code);
    }
    frames.iter().find_map(Frame::reset).map_or(Nothing, |(stream, code)| Reset(stream, code))
}

const OPEN: u8 = 0;
const END: u8 = flag::END_STREAM;
const PROTOCOL: Told = GoAway(ErrorCode::PROTOCOL_ERROR);
const SIZE: Told = GoAway(ErrorCode::FRAME_SIZE_ERROR);
const CLOSED: Told = GoAway(ErrorCode::STREAM_CLOSED);

type Case = (&'static str, fn(&mut Raw), Told);

fn assert_all(start: fn() -> Raw, cases: &[Case]) {
    for (what, doing, expected) in cases {
        let mut raw = start();
        doing(&mut raw);
        assert_eq!(&told(&mut raw), expected, "{what}");
    }
}

#[test]
fn frames_have_their_sizes_and_places() {
    assert_all(
        Raw::client,
        &[
            ("DATA on stream 0", |raw| raw.send(kind::DATA, 0, 0, b"a"), PROTOCOL),
            ("HEADERS on stream 0", |raw| raw.request(0, END, &[]), PROTOCOL),
            ("PRIORITY on stream 0", |raw| raw.send(kind::PRIORITY, 0, 0, &[0; 5]), PROTOCOL),
            (
                "PRIORITY of 4 octets",
                |raw| {
                    raw.request(1, END, &[]);
                    raw.send(kind::PRIORITY, 0, 1, &[0; 4]);
                },
                Reset(1, ErrorCode::FRAME_SIZE_ERROR),
            ),
            (
                "PRIORITY of 4 octets, twice",
                |raw| {
                    raw.request(1, END, &[]);
                    raw.send(kind::PRIORITY, 0, 1, &[0; 4]);
                    raw.send(kind::PRIORITY, 0, 1, &[0; 4]);
                },
                Reset(1, ErrorCode::FRAME_SIZE_ERROR),
            ),
            (
                "PRIORITY of 4 octets after the end",
                |raw| {
                    raw.request(1, OPEN, &[]);
                    raw.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
                    raw.send(kind::PRIORITY, 0, 1, &[0; 4]);
                },
                SIZE,
            ),
            ("PRIORITY on an idle stream", |raw| raw.send(kind::PRIORITY, 0, 7, &[0; 5]), Nothing),
            (
                "PRIORITY on itself",
                |raw| {
                    raw.request(1, END, &[]);
                    raw.send(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 0]);
                },
                Reset(1, ErrorCode::PROTOCOL_ERROR),
            ),
            ("RST_STREAM on stream 0", |raw| raw.send(kind::RST_STREAM, 0, 0, &[0; 4]), PROTOCOL),
            (
                "RST_STREAM of 3 octets",
                |raw| {
                    raw.request(1, END, &[]);
                    raw.send(kind::RST_STREAM, 0, 1, &[0; 3]);
                },
                SIZE,
            ),
            ("RST_STREAM on an idle stream", |raw| raw.send(kind::RST_STREAM, 0, 1, &[0; 4]), PROTOCOL),
            ("SETTINGS on a stream", |raw| raw.send(kind::SETTINGS, 0, 1, &[]), PROTOCOL),
            ("SETTINGS of 5 octets", |raw| raw.send(kind::SETTINGS, 0, 0, &[0; 5]), SIZE),
            (
                "an acknowledgement with a payload",
                |raw| raw.send(kind::SETTINGS, flag::ACK, 0, &[0; 6]),
                SIZE,
            ),
            ("PUSH_PROMISE", |raw| raw.send(kind::PUSH_PROMISE, 0, 1, &[0; 4]), PROTOCOL),
            ("PING on a stream", |raw| raw.send(kind::PING, 0, 1, &[0; 8]), PROTOCOL),
            ("PING of 7 octets", |raw| raw.send(kind::PING, 0, 0, &[0; 7]), SIZE),
            ("GOAWAY on a stream", |raw| raw.send(kind::GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
            ("GOAWAY of 7 octets", |raw| raw.send(kind::GOAWAY, 0, 0, &[0; 7]), SIZE),
            ("GOAWAY with words", |raw| raw.send(kind::GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x2abye"), Nothing),
            ("WINDOW_UPDATE of 3 octets", |raw| raw.send(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE),
            ("WINDOW_UPDATE of nothing", |raw| raw.send(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL),
            (
                "WINDOW_UPDATE on an idle stream",
                |raw| raw.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
                PROTOCOL,
            ),
            ("CONTINUATION of nothing", |raw| raw.send(kind::CONTINUATION, 0, 1, &[]), PROTOCOL),
            ("an unknown frame", |raw| raw.send(0x42, 0xff, 0x1234, &[7; 1000]), Nothing),
            ("a frame that is too large", |raw| raw.send(0x42, 0, 0, &[0; 16_385]), SIZE),
            (
                "DATA with too much padding",
                |raw| {
                    raw.request(1, OPEN, &[]);
                    raw.send(kind::DATA, flag::PADDED, 1, &[2, 0]);
                },
                PROTOCOL,
            ),
            (
                "HEADERS with too much padding",
                |raw| raw.send(kind::HEADERS, flag::PADDED, 1, &[9, 0]),
                PROTOCOL,
            ),
            ("HEADERS without its padding", |raw| raw.send(kind::HEADERS, flag::PADDED, 1, &[]), SIZE),
            ("HEADERS without its priority", |raw| raw.send(kind::HEADERS, flag::PRIORITY, 1, &[0; 4]), SIZE),
            (
                "HEADERS that cannot be decoded",
                |raw| raw.send(kind::HEADERS, flag::END_HEADERS, 1, &[0x80]),
                GoAway(ErrorCode::COMPRESSION_ERROR),
            ),
        ],
    );
}

#[test]
fn settings_have_their_values() {
    let settings = |id: u16, value: u32| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    for (id, value, expected) in [
        (2, 2, PROTOCOL),
        (2, 0, Nothing),
        (4, 0x8000_0000, GoAway(ErrorCode::FLOW_CONTROL_ERROR)),
        (4, 0x7fff_ffff, Nothing),
        (5, 16_383, PROTOCOL),
        (5, 16_777_216, PROTOCOL),
        (5, 16_777_215, Nothing),
        (8, 2, PROTOCOL),
        (0x4242, 7, Nothing),
    ] {
        let mut raw = Raw::client();
        raw.send(kind::SETTINGS, 0, 0, &settings(id, value));
        assert_eq!(told(&mut raw), expected, "{id} = {value}");
    }
    let mut raw = Raw::server();
    raw.send(kind::SETTINGS, 0, 0, &settings(2, 1));
    assert_eq!(told(&mut raw), PROTOCOL, "a server that says that it takes pushes");
    let mut raw = Raw::server();
    raw.send(kind::SETTINGS, 0, 0, &settings(8, 1));
    raw.send(kind::SETTINGS, 0, 0, &settings(8, 0));
    assert_eq!(told(&mut raw), PROTOCOL, "extended CONNECT, taken back");
}

#[test]
fn a_connection_begins_with_its_preface_and_settings() {
    let start = || Raw::silent_client(&Settings::default());
    assert_all(
        start,
        &[
            (
                "HTTP/1.1",
                |raw| {
                    raw.frames();
                    raw.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                },
                PROTOCOL,
            ),
            (
                "a preface with a wrong end",
                |raw| {
                    raw.frames();
                    raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r");
                },
                PROTOCOL,
            ),
            (
                "PING first",
                |raw| {
                    raw.frames();
                    raw.write(crate::http2::frame::PREFACE);
                    raw.send(kind::PING, 0, 0, &[0; 8]);
                },
                PROTOCOL,
            ),
        ],
    );
    let mut raw = start();
    for octet in [crate::http2::frame::PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat() {
        raw.write(&[octet]);
    }
    assert!(raw.frames().iter().any(|frame| frame.kind == kind::SETTINGS && frame.flags == flag::ACK));
}

#[test]
fn streams_go_through_their_states() {
    assert_all(
        Raw::client,
        &[
            ("an even number", |raw| raw.request(2, END, &[]), PROTOCOL),
            (
                "a number that was passed over",
                |raw| {
                    raw.request(5, END, &[]);
                    raw.request(3, END, &[]);
                },
                PROTOCOL,
            ),
            ("DATA on an idle stream", |raw| raw.send(kind::DATA, 0, 1, b"a"), PROTOCOL),
            (
                "DATA after the end",
                |raw| {
                    raw.request(1, END, &[]);
                    raw.send(kind::DATA, 0, 1, b"a");
                },
                Reset(1, ErrorCode::STREAM_CLOSED),
            ),
            (
                "HEADERS after the end",
                |raw| {
                    raw.request(1, END, &[]);
                    raw.request(1, END, &[]);
                },
                Reset(1, ErrorCode::STREAM_CLOSED),
            ),
            (
                "DATA after RST_STREAM",
                |raw| {
                    raw.request(1, OPEN, &[]);
                    raw.send(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
                    raw.send(kind::DATA, 0, 1, b"a");
                },
                Reset(1, ErrorCode::STREAM_CLOSED),
            ),
            (
                "DATA after both ends",
                |raw| {
                    raw.request(1, END, &[]);
                    let (_, key) = raw.connection.next_request().unwrap();
                    raw.connection.send_response(key, &response(200), true);
                    raw.send(kind::DATA, 0, 1, b"a");
                },
                CLOSED,
            ),
            (
                "DATA that was on its way when we reset the stream",
                |raw| {
                    raw.request(1, OPEN, &[]);
                    let (_, key) = raw.connection.next_request().unwrap();
                    raw.connection.reset(key, ErrorCode::CANCEL);
                    raw.frames();
                    raw.send(kind::DATA, END, 1, b"a");
                },
                Nothing,
            ),
            (
                "WINDOW_UPDATE and RST_STREAM after both ends",
                |raw| {
                    raw.request(1, END, &[]);
                    let (_, key) = raw.connection.next_request().unwrap();
                    raw.connection.send_response(key, &response(200), true);
                    raw.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
                    raw.send(kind::RST_STREAM, 0, 1, &[0; 4]);
                },
                Nothing,
            ),
            (
                "trailers that do not end",
                |raw| {
                    raw.request(1, OPEN, &[]);
                    let block = raw.block(&[("a", "b")]);
                    raw.send(kind::HEADERS, flag::END_HEADERS, 1, &block);
                },
                Reset(1, ErrorCode::PROTOCOL_ERROR),
            ),
            (
                "a frame in the middle of a head",
                |raw| {
                    raw.send(kind::HEADERS, END, 1, &[0x82]);
                    raw.send(kind::PING, 0, 0, &[0; 8]);
                },
                PROTOCOL,
            ),
            (
                "a head of one stream that goes on in another",
                |raw| {
                    raw.send(kind::HEADERS, END, 1, &[0x82]);
                    raw.send(kind::CONTINUATION, flag::END_HEADERS, 3, &[]);
                },
                PROTOCOL,
            ),
            (
                "a body longer than announced",
                |raw| {
                    raw.request(1, OPEN, &[("content-length", "1")]);
                    raw.send(kind::DATA, END, 1, b"ab");
                },
                Reset(1, ErrorCode::PROTOCOL_ERROR),
            ),
            (
                "a body shorter than announced",
                |raw| {
                    raw.request(1, OPEN, &[("content-length", "3")]);
                    raw.send(kind::DATA, END, 1, b"ab");
                },
                Reset(1, ErrorCode::PROTOCOL_ERROR),
            ),
            (
                "no body where one is announced",
                |raw| raw.request(1, END, &[("content-length", "3")]),
                Reset(1, ErrorCode::PROTOCOL_ERROR),
            ),
            (
                "a body as announced, with padding",
                |raw| {
                    raw.request(1, OPEN, &[("content-length", "3")]);
                    raw.send(kind::DATA, flag::PADDED, 1, b"\x02ab\0\0");
                    raw.send(kind::DATA, END | flag::PADDED, 1, b"\x01c\0");
                },
                Nothing,
            ),
            (
                "a malformed request",
                |raw| raw.request(1, END, &[("not a token", "a")]),
                Reset(1, ErrorCode::PROTOCOL_ERROR),
            ),
            (
                "a stream that depends on itself",
                |raw| {
                    raw.send(
                        kind::HEADERS,
                        END | flag::END_HEADERS | flag::PRIORITY,
                        1,
                        &[0, 0, 0, 1, 0, 0x82],
                    );
                },
                Reset(1, ErrorCode::PROTOCOL_ERROR),
            ),
        ],
    );
}

#[test]
fn a_malformed_request_leaves_the_connection_and_its_tables_whole() {
    let mut raw = Raw::client();
    raw.request(1, END, &[("x-kept", "1"), ("connection", "close")]);
    raw.request(3, END, &[("x-kept", "1"), ("connection", "close")]);
    raw.request(5, END, &[("x-kept", "1")]);
    assert_eq!(raw.frames().iter().filter_map(Frame::reset).count(), 2);
    let (head, _) = raw.connection.next_request().unwrap();
    assert_eq!(head.fields.get("x-kept"), Some(&b"1"[..]));
    assert!(raw.connection.next_request().is_none());
}

#[test]
fn a_request_in_many_pieces_is_the_same_request() {
    let mut raw = Raw::client();
    let block = raw.block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]);
    let mut octets = frame(
        kind::HEADERS,
        flag::PADDED | flag::PRIORITY,
        1,
        &[&[3, 0, 0, 0, 9, 1][..], &block[..4], &[0; 3]].concat(),
    );
    for piece in block[4..].chunks(3) {
        octets.extend(frame(kind::CONTINUATION, 0, 1, piece));
    }
    octets.extend(frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]));
    octets.extend(frame(kind::DATA, flag::PADDED | END, 1, b"\x04hello\0\0\0\0"));
    for octet in octets {
        raw.write(&[octet]);
    }
    let (head, key) = raw.connection.next_request().unwrap();
    assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/"));
    assert_eq!(raw.connection.streams.get(key).data.filled(), b"hello");
    assert_eq!(told(&mut raw), Nothing);
}

#[test]
fn one_more_stream_than_allowed_is_refused_and_may_be_tried_again() {
    let mut raw = Raw::client_of(&Settings { max_streams: 2, ..Settings::default() });
    for stream in [1, 3, 5] {
        raw.request(stream, END, &[]);
    }
    assert_eq!(told(&mut raw), Reset(5, ErrorCode::REFUSED_STREAM));
    let (_, key) = raw.connection.next_request().unwrap();
    raw.connection.send_response(key, &response(200), true);
    raw.request(7, END, &[]);
    assert_eq!(told(&mut raw), Nothing);
}

#[test]
fn responses_are_as_strict_as_requests() {
    fn answered(fields: &[(&str, &str)], flags: u8) -> Raw {
        let mut raw = Raw::server();
        raw.connection.open(&request("GET", "/"), true).unwrap();
        raw.frames();
        let block = raw.block(fields);
        raw.send(kind::HEADERS, flags | flag::END_HEADERS, 1, &block);
        raw
    }
    let reset = Reset(1, ErrorCode::PROTOCOL_ERROR);
    assert_eq!(told(&mut answered(&[(":status", "200")], END)), Nothing);
    assert_eq!(told(&mut answered(&[("server", "a")], END)), reset);
    assert_eq!(told(&mut answered(&[(":status", "101")], OPEN)), reset);
    assert_eq!(told(&mut answered(&[(":status", "103")], END)), reset);
    assert_eq!(told(&mut answered(&[(":status", "200"), ("content-length", "1")], END)), reset);
    assert_eq!(told(&mut answered(&[(":status", "304"), ("content-length", "1")], END)), Nothing);
    let mut raw = answered(&[(":status", "204")], OPEN);
    raw.send(kind::DATA, END, 1, b"a");
    assert_eq!(told(&mut raw), reset);
    let mut raw = Raw::server();
    raw.connection.open(&request("GET", "/"), true).unwrap();
    raw.frames();
    raw.send(kind::DATA, END, 1, b"a");
    assert_eq!(told(&mut raw), reset);
    let mut raw = Raw::server();
    raw.send(kind::HEADERS, flag::END_HEADERS, 2, &[0x88]);
    assert_eq!(told(&mut raw), PROTOCOL);
}

#[test]
fn the_rest_of_a_payload_is_nobody_elses() {
    let mut raw = Raw::server();
    let first = raw.connection.open(&request("GET", "/"), true).unwrap();
    let block = raw.block(&[(":status", "200")]);
    raw.send(kind::HEADERS, flag::END_HEADERS, 1, &block);
    let data = frame(kind::DATA, END, 1, b"0123456789");
    let (now, later) = data.split_at(13);
    raw.write(now);
    assert_eq!(raw.connection.streams.get(first).data.filled(), b"0123");
    raw.connection.release(first);
    let second = raw.connection.open(&request("GET", "/"), true).unwrap();
    assert_eq!(first, second, "the place is used again");
    raw.write(later);
    assert!(raw.connection.streams.get(second).data.is_empty());
    let block = raw.block(&[(":status", "204")]);
    raw.send(kind::HEADERS, flag::END_HEADERS | END, 3, &block);
    assert_eq!(raw.connection.streams.get(second).heads.pop_front().unwrap().status, 204);
}

/// They were on their way when the client had not heard which stream is the last; the tables and the window follow them.
#[test]
fn what_comes_after_the_last_stream_is_discarded() {
    let mut raw = Raw::client();
    raw.request(1, OPEN, &[]);
    raw.connection.shut_down();
    let ping = raw.frames().into_iter().find(|frame| frame.kind == kind::PING).unwrap();
    raw.send(kind::PING, flag::ACK, 0, &ping.payload);
    assert!(raw.frames().iter().any(|frame| frame.goaway() == Some(ErrorCode::NO_ERROR)));
    let window = raw.connection.receive_left;
    raw.request(3, OPEN, &[("x-kept", "1")]);
    raw.send(kind::DATA, 0, 3, b"late");
    raw.send(kind::WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]);
    raw.send(kind::PRIORITY, 0, 3, &[0; 5]);
    let block = raw.block(&[("x-late", "1")]);
    raw.send(kind::HEADERS, END | flag::END_HEADERS, 3, &block);
    raw.request(5, END, &[]);
    raw.send(kind::RST_STREAM, 0, 5, &[0, 0, 0, 8]);
    raw.send(kind::DATA, END, 5, b"late");
    assert_eq!(told(&mut raw), Nothing);
    assert_eq!(raw.connection.receive_left, window - 8);
    // From the table that the late head has changed.
    let block = raw.block(&[("x-kept", "1")]);
    raw.send(kind::HEADERS, END | flag::END_HEADERS, 1, &block);
    assert_eq!(told(&mut raw), Nothing);
    let (_, key) = raw.connection.next_request().unwrap();
    assert_eq!(raw.connection.streams.get(key).trailers.get("x-kept"), Some(&b"1"[..]));
    assert!(raw.connection.next_request().is_none());
    let end = raw.flood(20_000, |raw, _| raw.send(kind::DATA, 0, 3, &[]));
    assert!(matches!(end, Some((ErrorCode::ENHANCE_YOUR_CALM, 100..3000))), "{end:?}");
}

/// A peer that is in the middle of another head whenever one looks is not slow as long as heads come to their end.
#[test]
fn progress_is_heads_and_data_and_nothing_else() {
    let mut raw = Raw::client();
    let at = |raw: &Raw| raw.connection.progress;
    let block = raw.block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]);
    let (first, rest) = block.split_at(2);
    let before = at(&raw);
    raw.send(kind::PING, 0, 0, &[0; 8]);
    raw.send(kind::HEADERS, 0, 1, first);
    assert_eq!((at(&raw), raw.connection.is_inside_head()), (before, true));
    raw.send(kind::CONTINUATION, flag::END_HEADERS, 1, rest);
    let head = at(&raw);
    raw.send(kind::DATA, 0, 1, b"data");
    assert!(head != before && at(&raw) != head);
}
