use std::{
    io::IoSlice,
    task::{Context, Waker},
};

use super::{
    super::{
        frame::{Header, flag, kind},
        streams::want,
    },
    support::*,
};
use crate::{
    http2::{ErrorCode, Settings, settings},
    io::{Buffer, FLIGHT},
};

const END: u8 = flag::END_STREAM;

/// A server connection with one request to answer, whose client gives streams this much room.
fn answering(window: u32) -> (Raw, usize) {
    let mut raw = Raw::client();
    let [a, b, c, d] = window.to_be_bytes();
    raw.send(kind::SETTINGS, 0, 0, &[0, 4, a, b, c, d]);
    raw.request(1, END, &[]);
    let (_, key) = raw.connection.next_request().unwrap();
    raw.connection.send_response(key, &response(200), false);
    raw.frames();
    (raw, key)
}

fn data_sent(raw: &mut Raw) -> usize {
    raw.frames().iter().filter(|frame| frame.kind == kind::DATA).map(|frame| frame.payload.len()).sum()
}

#[test]
fn data_goes_as_far_as_the_stream_window() {
    let (mut raw, key) = answering(10);
    assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 30])]).unwrap(), 10);
    assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 20])]).unwrap(), 0);
    raw.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 5]);
    assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 20])]).unwrap(), 5);
    // Taken away below zero, and given back.
    raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]);
    assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 20])]).unwrap(), 0);
    raw.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 3]);
    assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 20])]).unwrap(), 2);
    assert_eq!(data_sent(&mut raw), 17);
}

#[test]
fn data_goes_as_far_as_the_connection_window() {
    let (mut raw, key) = answering(1 << 20);
    let mut sent = 0;
    loop {
        match raw.connection.send_data(key, &[IoSlice::new(&[0; 10_000])]).unwrap() {
            0 => break,
            count => sent += count,
        }
        data_sent(&mut raw);
    }
    assert_eq!(sent, 65_535);
    assert!(raw.connection.streams.get(key).in_line);
    raw.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 7]);
    raw.connection.wake_line();
    assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 10])]).unwrap(), 7);
}

#[test]
fn windows_do_not_overflow() {
    for (stream, expected) in [(0, None), (1, Some((1, ErrorCode::FLOW_CONTROL_ERROR)))] {
        let (mut raw, _) = answering(65_535);
        raw.send(kind::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
        let frames = raw.frames();
        assert_eq!(frames.iter().find_map(Frame::reset), expected);
        let goaway = expected.is_none().then_some(ErrorCode::FLOW_CONTROL_ERROR);
        assert_eq!(frames.iter().find_map(Frame::goaway), goaway);
    }
    let (mut raw, _) = answering(65_535);
    raw.send(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0, 0, 0]);
    raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(raw.frames().iter().find_map(Frame::goaway), Some(ErrorCode::FLOW_CONTROL_ERROR));
}

#[test]
fn a_peer_that_sends_more_than_a_window_is_stopped() {
    let mut raw = Raw::client();
    raw.request(1, 0, &[]);
    for _ in 0..4 {
        raw.send(kind::DATA, 0, 1, &[0; 16_384]);
    }
    assert!(raw.frames().is_empty(), "nobody has read yet");
    raw.send(kind::DATA, 0, 1, &[0]);
    assert_eq!(raw.frames().iter().find_map(Frame::reset), Some((1, ErrorCode::FLOW_CONTROL_ERROR)));
}

#[test]
fn reading_opens_the_window_and_a_quick_reader_gets_a_larger_one() {
    let mut raw = Raw::client();
    raw.request(1, 0, &[]);
    let (_, key) = raw.connection.next_request().unwrap();
    let mut given = 65_536_usize;
    let mut largest = 0;
    for _ in 0..500 {
        let count = given.min(16_384);
        raw.send(kind::DATA, 0, 1, &vec![0; count]);
        given -= count;
        raw.connection.streams.get(key).data.clear();
        raw.connection.release_window(key, count, true);
        for update in raw.frames() {
            assert_eq!((update.kind, update.stream), (kind::WINDOW_UPDATE, 1));
            given += u32::from_be_bytes(update.payload[..].try_into().unwrap()) as usize;
        }
        largest = largest.max(given);
    }
    assert!((900_000..=1 << 20).contains(&largest), "{largest}");
}

#[test]
fn the_end_is_told_by_the_last_frame_as_long_as_that_has_not_left() {
    let (mut raw, key) = answering(65_535);
    raw.connection.send_data(key, &[IoSlice::new(b"hello")]).unwrap();
    raw.request(3, END, &[]);
    let (_, other) = raw.connection.next_request().unwrap();
    raw.connection.send_response(other, &response(200), false);
    raw.connection.end(key, None).unwrap();
    raw.connection.end(other, None).unwrap();
    let frames = raw.frames();
    let told: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.flags, frame.stream)).collect();
    assert_eq!(told, [(kind::DATA, END, 1), (kind::HEADERS, END | flag::END_HEADERS, 3)]);

    let (mut raw, key) = answering(65_535);
    raw.connection.send_data(key, &[IoSlice::new(b"hello")]).unwrap();
    // The transport has taken the flags already.
    raw.connection.out.forget(5);
    raw.connection.end(key, None).unwrap();
    raw.connection.out.forget(4 + 5);
    assert_eq!(
        Header::read(&raw.connection.out.copy()).unwrap(),
        Header { length: 0, kind: kind::DATA, flags: END, stream: 1 }
    );
}

#[test]
fn frames_are_as_long_as_the_peer_takes_them() {
    let (mut raw, key) = answering(1 << 20);
    assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 40_000])]).unwrap(), 40_000);
    let lengths: Vec<_> = raw.frames().iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(lengths, [16_384, 16_384, 7232]);
    let mut head = response(200);
    head.fields.push(b"x-long", &[b'a'; 40_000]);
    raw.request(3, END, &[]);
    let (_, key) = raw.connection.next_request().unwrap();
    raw.connection.send_response(key, &head, true);
    let frames = raw.frames();
    let told: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.flags)).collect();
    assert_eq!(
        told,
        [(kind::HEADERS, END), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS),]
    );
}

/// The same as [`answering`], with a client that is one of us.
fn answering_one_of_us(window: u32) -> (Raw, usize) {
    let mut raw = Raw::client_of(&Settings { max_frame: settings::LONG_FRAME, ..Settings::default() });
    for (id, value) in [(4, window), (5, settings::LONG_FRAME)] {
        let [a, b, c, d] = value.to_be_bytes();
        raw.send(kind::SETTINGS, 0, 0, &[0, id, a, b, c, d]);
    }
    raw.send(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]);
    raw.request(1, END, &[]);
    let (_, key) = raw.connection.next_request().unwrap();
    raw.connection.send_response(key, &response(200), false);
    raw.frames();
    (raw, key)
}

/// Gives this much, and returns the lengths of the frames that it went in.
fn give(raw: &mut Raw, key: usize, count: usize) -> Vec<usize> {
    let mut data = Buffer::new();
    data.extend(&vec![7; count]);
    let sent = raw.connection.give_data(key, &mut data).unwrap();
    assert_eq!(data.len(), count - sent);
    raw.frames().iter().map(|frame| frame.payload.len()).collect()
}

#[test]
fn what_is_given_is_one_frame_to_one_of_us_and_many_to_others() {
    let (mut raw, key) = answering_one_of_us(1 << 20);
    assert_eq!(give(&mut raw, key, FLIGHT), [FLIGHT]);
    assert_eq!(give(&mut raw, key, 100), [100]);
    let (mut raw, key) = answering(1 << 20);
    assert_eq!(give(&mut raw, key, 40_000), [16_384, 16_384, 7232]);
}

#[test]
fn what_is_given_waits_for_a_window_that_is_about_to_open() {
    let (mut raw, key) = answering_one_of_us(200_000);
    assert_eq!(give(&mut raw, key, 90_000), [90_000]);
    assert_eq!(give(&mut raw, key, 90_000), [90_000]);
    assert!(give(&mut raw, key, 90_000).is_empty());
    raw.send(kind::WINDOW_UPDATE, 0, 1, &[0, 1, 0x86, 0xa0]);
    assert_eq!(give(&mut raw, key, 90_000), [90_000]);
    // Half of this window is not used: nobody knows when there will be more.
    let (mut raw, key) = answering_one_of_us(80_000);
    assert_eq!(give(&mut raw, key, 90_000), [80_000]);
}

#[test]
fn what_is_given_waits_for_the_transport() {
    let (mut raw, key) = answering_one_of_us(1 << 20);
    let mut data = Buffer::new();
    for waits in [false, false, true] {
        data.extend(&vec![7; FLIGHT - data.len()]);
        let sent = raw.connection.give_data(key, &mut data).unwrap();
        assert_eq!((sent == 0, raw.connection.streams.get(key).in_line), (waits, waits));
    }
    assert_eq!(raw.frames().len(), 2);
    raw.connection.wake_line();
    assert!(!raw.connection.streams.get(key).in_line);
    assert_eq!(raw.connection.give_data(key, &mut data).unwrap(), FLIGHT);
}

#[test]
fn what_we_promise_is_what_we_send() {
    let (mut raw, key) = answering(65_535);
    raw.request(3, END, &[]);
    let (_, short) = raw.connection.next_request().unwrap();
    let mut head = response(200);
    head.fields.push(b"content-length", b"3");
    raw.connection.send_response(short, &head, false);
    raw.connection.send_data(short, &[IoSlice::new(b"ab")]).unwrap();
    raw.connection.end(short, None).unwrap_err();
    raw.connection.send_data(short, &[IoSlice::new(b"cd")]).unwrap_err();
    assert!(raw.connection.send_data(key, &[IoSlice::new(b"ab")]).is_ok());
}

#[test]
fn the_connection_window_is_open_and_stays_so() {
    let mut raw = Raw::silent_client(&Settings::default());
    let update = raw.frames().pop().unwrap();
    assert_eq!((update.kind, update.stream), (kind::WINDOW_UPDATE, 0));
    let given = u32::from_be_bytes(update.payload[..].try_into().unwrap());
    assert_eq!(given + 65_535, 0x7fff_ffff);
}

/// A server whose client has so many streams and gives none of them any room.
fn blocked(streams: u32) -> Raw {
    let mut raw = Raw::client_of(&Settings { max_streams: 10_000, ..Settings::default() });
    raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for number in 0..streams {
        raw.request(number * 2 + 1, END, &[]);
        let (_, key) = raw.connection.next_request().unwrap();
        raw.connection.send_response(key, &response(200), false);
        assert_eq!(raw.connection.send_data(key, &[IoSlice::new(&[0; 9])]).unwrap(), 0);
        raw.connection.streams.get(key).wait(&Context::from_waker(Waker::noop()), want::WRITE);
    }
    raw.frames();
    raw
}

fn count_blocked(raw: &mut Raw) -> usize {
    raw.connection.streams.iter_open().filter(|(_, slot)| slot.is_blocked()).count()
}

/// RFC 9113 §6.9.2: what it costs to change all windows does not grow with the number of streams.
#[tokio::test(start_paused = true)]
async fn all_windows_change_at_the_cost_of_one() {
    for streams in [10, 5000] {
        let mut raw = blocked(streams);
        let before = raw.connection.streams.visits;
        for _ in 0..40 {
            raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
            raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        }
        let visits = raw.connection.streams.visits - before;
        assert_eq!(visits, 0, "{streams} streams");
        // At the end of a turn some are looked at; none of them has room.
        assert_eq!(raw.connection.wake_line(), streams > 64);
        let visits = raw.connection.streams.visits - before;
        assert!(visits <= 64, "{streams} streams: {visits} visits");
        assert_eq!(count_blocked(&mut raw), streams as usize);
    }
}

/// All that wait hear of their larger windows, some in each turn.
#[tokio::test(start_paused = true)]
async fn a_larger_window_reaches_all_streams_in_time() {
    let mut raw = blocked(1000);
    // Some have gone meanwhile, and others are in their places.
    for key in 0..100 {
        raw.connection.release(key);
        raw.request(2001 + u32::try_from(key).unwrap() * 2, END, &[]);
        assert!(raw.connection.next_request().is_some());
    }
    raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
    let mut turns = 1;
    while raw.connection.wake_line() {
        turns += 1;
    }
    assert_eq!((turns, count_blocked(&mut raw)), (900_usize.div_ceil(64), 0));
}

/// RFC 9113 §6.9.2: a window that a setting makes too large ends the connection, as late as the setting may come.
#[tokio::test(start_paused = true)]
async fn a_setting_makes_no_window_of_an_open_stream_too_large() {
    for (is_open, expected) in [(true, Some(ErrorCode::FLOW_CONTROL_ERROR)), (false, None)] {
        let (mut raw, key) = answering(10);
        // As large as it can be: 2^31 - 1 - 10 more.
        raw.send(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xf5]);
        if !is_open {
            raw.connection.release(key);
        }
        raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 5]);
        assert_eq!(raw.frames().iter().find_map(Frame::goaway), None);
        raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 11]);
        assert_eq!(raw.frames().iter().find_map(Frame::goaway), expected);
    }
}

#[test]
fn a_peer_that_is_trusted_may_have_more_streams_and_larger_windows() {
    let mut raw = Raw::client_of(&Settings { max_streams: 1, window_growth: 0, ..Settings::default() });
    raw.request(1, 0, &[]);
    raw.request(3, END, &[]);
    assert_eq!(raw.frames().iter().filter_map(Frame::reset).count(), 1);
    let (_, key) = raw.connection.next_request().unwrap();
    raw.connection.trust(2, 1 << 20);
    assert_eq!(raw.frames()[0].payload, [0, 3, 0, 0, 0, 2]);
    raw.request(5, END, &[]);
    assert_eq!(raw.frames(), []);
    raw.send(kind::DATA, 0, 1, &[0; 16_384]);
    raw.send(kind::DATA, 0, 1, &[0; 16_384]);
    raw.connection.streams.get(key).data = Buffer::new();
    raw.connection.release_window(key, 32_768, true);
    assert_eq!(raw.frames()[0].payload, 98_304_u32.to_be_bytes(), "what was read, and as much as it was");
}
