use std::io::IoSlice;

use super::{
    super::frame::{flag, kind},
    support::*,
};
use crate::http2::{ErrorCode, OpenError, Settings, settings};

const END: u8 = flag::END_STREAM;
const CALM: ErrorCode = ErrorCode::ENHANCE_YOUR_CALM;

/// What a peer does again and again, with the number of the time.
type Deed = fn(&mut Raw, u32);

#[tokio::test(start_paused = true)]
async fn what_brings_nobody_anything_is_endured_for_a_while() {
    let deeds: [(&str, Deed); 13] = [
        ("PING", |raw, _| raw.send(kind::PING, 0, 0, &[0; 8])),
        ("SETTINGS", |raw, _| raw.send(kind::SETTINGS, 0, 0, &[])),
        ("SETTINGS that change windows", |raw, count| {
            let [.., last] = count.to_be_bytes();
            raw.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 1, last]);
        }),
        ("acknowledgements", |raw, _| raw.send(kind::SETTINGS, flag::ACK, 0, &[])),
        ("PRIORITY", |raw, count| raw.send(kind::PRIORITY, 0, count * 2 + 1, &[0; 5])),
        ("WINDOW_UPDATE", |raw, _| raw.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", |raw, _| raw.send(0x77, 0, 0, &[])),
        ("GOAWAY", |raw, _| raw.send(kind::GOAWAY, 0, 0, &[0; 8])),
        ("empty DATA", |raw, count| {
            if count == 1 {
                raw.request(1, 0, &[]);
            }
            raw.send(kind::DATA, 0, 1, &[]);
        }),
        ("padding alone", |raw, count| {
            if count == 1 {
                raw.request(1, 0, &[]);
            }
            raw.send(kind::DATA, flag::PADDED, 1, &[1, 0]);
        }),
        ("rapid reset", |raw, count| {
            raw.request(count * 2 - 1, END, &[]);
            raw.send(kind::RST_STREAM, 0, count * 2 - 1, &[0, 0, 0, 8]);
            while let Some((_, key)) = raw.connection.next_request() {
                raw.connection.release(key);
            }
        }),
        ("streams that make us reset them", |raw, count| {
            raw.request(count * 2 - 1, END, &[]);
            raw.send(kind::WINDOW_UPDATE, 0, count * 2 - 1, &[0; 4]);
            while let Some((_, key)) = raw.connection.next_request() {
                raw.connection.release(key);
            }
        }),
        ("more streams than allowed", |raw, count| raw.request(count * 2 - 1, END, &[])),
    ];
    for (what, deed) in deeds {
        let end = Raw::client().flood(20_000, deed);
        assert!(matches!(end, Some((CALM, 20..3000))), "{what}: {end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_earns_what_it_costs() {
    let mut raw = Raw::client();
    let end = raw.flood(20_000, |raw, count| {
        let stream = count * 2 - 1;
        raw.request(stream, 0, &[]);
        raw.send(kind::DATA, END, stream, b"some");
        raw.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 4]);
        raw.send(kind::PING, 0, 0, &[0; 8]);
        let (head, key) = raw.connection.next_request().unwrap();
        raw.connection.recycle_request(head);
        raw.connection.send_response(key, &response(200), false);
        assert_eq!(raw.connection.send_data(key, &[IoSlice::new(b"some")]).unwrap(), 4);
        raw.connection.end(key, None).unwrap();
        raw.connection.release(key);
    });
    assert_eq!(end, None);
}

#[tokio::test(start_paused = true)]
async fn a_head_has_an_end() {
    let endless: [(&str, Deed); 3] = [
        ("CONTINUATION without anything", |raw, count| {
            if count == 1 {
                raw.send(kind::HEADERS, 0, 1, &[0x82]);
            }
            raw.send(kind::CONTINUATION, 0, 1, &[]);
        }),
        ("long CONTINUATION", |raw, count| {
            if count == 1 {
                raw.send(kind::HEADERS, 0, 1, &[0x82]);
            }
            raw.send(kind::CONTINUATION, 0, 1, &[0x82; 16_000]);
        }),
        ("a single frame that is much too long", |raw, _| {
            raw.write(&frame(kind::HEADERS, 0, 1, &[])[..0]);
            raw.write(&[0x03, 0x00, 0x00, kind::HEADERS, 0, 0, 0, 0, 1]);
        }),
    ];
    for (what, deed) in endless {
        let mut raw = Raw::client_of(&Settings { max_frame: settings::LONG_FRAME, ..Settings::default() });
        let end = raw.flood(1000, deed);
        assert!(matches!(end, Some((CALM, 1..=65))), "{what}: {end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bomb_of_indexed_fields_is_not_unpacked() {
    let mut raw = Raw::client();
    let value = "v".repeat(3900);
    let mut bomb = raw.block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]);
    bomb.extend([0x40, 1, b'x', 0x7f, 0xbd, 0x1d]);
    bomb.extend(value.as_bytes());
    bomb.resize(16_000, 0x80 | 62);
    let end = raw.flood(1000, |raw, count| {
        raw.send(kind::HEADERS, END | flag::END_HEADERS, count * 2 - 1, &bomb);
        if let Some((head, key)) = raw.connection.next_request() {
            assert!(raw.connection.streams.get(key).too_large);
            let held: usize = head.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(held <= 64 << 10, "{held} octets of fields");
            raw.connection.release(key);
        }
    });
    assert!(matches!(end, Some((CALM, 5..50))), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_but_still_held_count_as_well() {
    let mut raw = Raw::client_of(&Settings { max_streams: 10, ..Settings::default() });
    let mut held = 0;
    for count in 0..100 {
        raw.request(count * 2 + 1, END, &[]);
        held += usize::from(raw.connection.next_request().is_some());
        raw.send(kind::RST_STREAM, 0, count * 2 + 1, &[0, 0, 0, 8]);
    }
    assert_eq!(held, 20);
    assert!(raw.frames().iter().any(|frame| frame.reset() == Some((199, ErrorCode::REFUSED_STREAM))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_not_answered_without_bound() {
    let mut raw = Raw::client();
    let mut sent = 0;
    while !raw.connection.is_congested() {
        let stream = sent * 2 + 1;
        raw.request(stream, END, &[]);
        let (_, key) = raw.connection.next_request().unwrap();
        raw.connection.send_response(key, &response(200), true);
        raw.connection.release(key);
        sent += 1;
    }
    // The driver reads no more from here on.
    assert!(raw.connection.out.len() < 256 << 10);
}

/// However many frames came, others have their turn before the last one is taken.
#[tokio::test(start_paused = true)]
async fn a_turn_takes_so_many_frames_and_no_more() {
    let mut raw = Raw::client_of(&Settings { max_streams: 10_000, ..Settings::default() });
    let block = raw.block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]);
    let heads =
        (0..1000).flat_map(|number| frame(kind::HEADERS, END | flag::END_HEADERS, number * 2 + 1, &block));
    let mut bytes: Vec<u8> = heads.collect();
    let mut taken = Vec::new();
    while raw.one_turn(&std::mem::take(&mut bytes)) {
        taken.push(std::iter::from_fn(|| raw.connection.next_request()).count());
    }
    assert_eq!(taken, [256, 256, 256]);
    assert_eq!(std::iter::from_fn(|| raw.connection.next_request()).count(), 1000 - 3 * 256);
}

/// One that speaks for many is read on after a pause; all that it has sent is still there then.
#[tokio::test(start_paused = true)]
async fn who_speaks_for_many_is_slowed_down_and_not_ended() {
    let mut raw = Raw::client_of(&Settings { paces: true, ..Settings::default() });
    let (mut count, mut pauses) = (0, 0);
    while pauses < 100 {
        count += 1;
        assert!(count < 10_000 && raw.connection.closed().is_none(), "it is not slowed down");
        let stream = count * 2 - 1;
        raw.request(stream, END, &[]);
        raw.send(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        while let Some((_, key)) = raw.connection.next_request() {
            raw.connection.release(key);
        }
        if raw.connection.is_tired() {
            pauses += 1;
            tokio::time::advance(std::time::Duration::from_millis(50)).await;
            raw.connection.rested();
            raw.write(&[]);
        }
    }
    // 100 pauses are 5 s, at 1000 in a second.
    assert!((8900..9200).contains(&count), "{count}");
    assert!(raw.connection.closed().is_none());
    raw.request(count * 2 + 1, END, &[]);
    assert!(raw.connection.next_request().is_some());
}

/// What a server bears at once is reset at once; what is more waits, and the connection takes nothing new.
#[tokio::test(start_paused = true)]
async fn a_server_is_sent_no_more_resets_than_it_bears() {
    let mut raw = Raw::server_of(&Settings { few_resets: true, ..Settings::default() });
    let open = |raw: &mut Raw| raw.connection.open(&request("GET", "/"), true);
    let keys: Vec<_> = (0..50).map(|_| open(&mut raw).unwrap()).collect();
    let kept = keys[49];
    raw.frames();
    for key in &keys[..49] {
        raw.connection.release(*key);
    }
    let resets = |raw: &mut Raw| raw.frames().iter().filter_map(Frame::reset).count();
    assert_eq!((resets(&mut raw), open(&mut raw).err()), (16, Some(OpenError::GoingAway)));
    assert!(raw.connection.is_pausing() && raw.connection.streams.get(kept).open);
    let mut later = 0;
    for _ in 0..100 {
        tokio::time::advance(std::time::Duration::from_millis(100)).await;
        raw.connection.begin_turn(std::task::Waker::noop());
        later += resets(&mut raw);
        assert!(later <= 50);
    }
    assert_eq!((later, raw.connection.is_pausing()), (33, false));
    // Answers to what was given up are nobody's, and no reason for an end.
    let block = raw.block(&[(":status", "200")]);
    for stream in (0..49).map(|number| number * 2 + 1) {
        raw.send(kind::HEADERS, END | flag::END_HEADERS, stream, &block);
    }
    assert!(raw.connection.closed().is_none() && resets(&mut raw) == 0);
}

/// Requests that are taken back before they leave.
#[tokio::test(start_paused = true)]
async fn a_server_that_reads_nothing_is_asked_nothing_more() {
    let mut raw = Raw::server();
    let mut head = request("GET", "/");
    let long = "x".repeat(30_000);
    for count in 0.. {
        head.fields.set("x-long", format!("{count}{long}").as_bytes());
        match raw.connection.open(&head, true) {
            Ok(key) => raw.connection.release(key),
            Err(error) => {
                assert_eq!(error, OpenError::Congested);
                break;
            }
        }
    }
    assert!(raw.connection.out.len() < (1 << 20) + (64 << 10));
    raw.frames();
    raw.connection.open(&head, true).unwrap();
}
