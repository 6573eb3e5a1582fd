//! Other ends that break the protocol, and what they get for it.

use rustls::AlertDescription as Alert;

use super::*;

/// What an attacker sends behind its handshake.
enum Sends {
    /// These bytes as they are.
    Raw(Vec<u8>),
    /// A sealed record.
    Record(ContentType, Vec<u8>),
    /// A sealed record with this inner type and padding.
    Inner(Vec<u8>),
}

use Sends::{Inner, Raw, Record};

fn data(content: &[u8]) -> Sends {
    Record(ContentType::ApplicationData, content.to_vec())
}

fn message(content: &[u8]) -> Sends {
    Record(ContentType::Handshake, content.to_vec())
}

fn alert(content: &[u8]) -> Sends {
    Record(ContentType::Alert, content.to_vec())
}

fn put(attacker: &mut TlsStream, sent: &[Sends]) {
    for one in sent {
        match one {
            Raw(bytes) => attacker.outgoing.extend(bytes),
            Record(kind, content) => {
                attacker.sealing.seal(*kind, content, &mut attacker.outgoing).unwrap();
            }
            Inner(inner) => attacker.sealing.seal_anything(inner, &mut attacker.outgoing),
        }
    }
}

/// What the victim read before the end, and the end: `Ok` a regular one.
async fn read_all(victim: &mut TlsStream) -> (Vec<u8>, io::Result<()>) {
    let mut got = Buffer::new();
    loop {
        match soon("the end", bytes::fill(victim, &mut got, 1000)).await {
            Ok(0) => return (got.filled().to_vec(), Ok(())),
            Ok(_) => {}
            Err(error) => return (got.filled().to_vec(), Err(error)),
        }
    }
}

struct Arena {
    client: ResumingClient,
    server: Arc<ResumingServer>,
}

impl Arena {
    fn new() -> Self {
        let authority = Authority::new("demo.org");
        Self { client: our_client(&authority), server: our_server(&authority) }
    }

    /// The victim reads "ok" and then ends the connection with this alert, which the attacker gets to see.
    async fn refused(&self, client_attacks: bool, what: &str, sent: Vec<Sends>, expected: Alert) {
        let (client, server) = ours(&self.client, &self.server).await;
        let (mut attacker, mut victim) = if client_attacks { (client, server) } else { (server, client) };
        put(&mut attacker, &[data(b"ok")]);
        put(&mut attacker, &sent);
        bytes::send(&mut attacker, b"").await.unwrap();
        let (got, end) = read_all(&mut victim).await;
        assert_eq!(got, b"ok", "{what}");
        assert_eq!(victim.reading, Reading::Failed { alert: expected, ours: true }, "{what}: {end:?}");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData, "{what}");
        assert!(victim.incoming.is_empty(), "{what}");
        // It stays so, and nothing more is sent.
        assert!(bytes::fill(&mut victim, &mut Buffer::new(), 1).await.is_err(), "{what}");
        assert!(bytes::send(&mut victim, b"more").await.is_err(), "{what}");
        let (_, end) = read_all(&mut attacker).await;
        let told = end.unwrap_err();
        let told = told.get_ref().unwrap().downcast_ref::<rustls::Error>();
        assert_eq!(told, Some(&rustls::Error::AlertReceived(expected)), "{what}");
    }
}

#[tokio::test]
async fn records_that_break_the_protocol_end_it() {
    let arena = Arena::new();
    let mut overlong = vec![1; record::MAX_CONTENT + 1];
    overlong.push(23);
    let cases: Vec<(&str, Vec<Sends>, Alert)> = vec![
        (
            "an unsealed handshake record",
            vec![Raw(vec![22, 3, 3, 0, 5, 24, 0, 0, 1, 0])],
            Alert::UnexpectedMessage,
        ),
        ("an unsealed alert", vec![Raw(vec![21, 3, 3, 0, 2, 1, 0])], Alert::UnexpectedMessage),
        ("a change of cipher spec", vec![Raw(vec![20, 3, 3, 0, 1, 1])], Alert::UnexpectedMessage),
        ("plain HTTP", vec![Raw(b"GET / HTTP/1.1\r\n\r\n".to_vec())], Alert::UnexpectedMessage),
        ("a record that is too long", vec![Raw(vec![23, 3, 3, 0x41, 1])], Alert::RecordOverflow),
        ("an empty record", vec![Raw(vec![23, 3, 3, 0, 0])], Alert::BadRecordMac),
        (
            "a record shorter than a tag",
            vec![Raw([&[23, 3, 3, 0, 15][..], &[0; 15]].concat())],
            Alert::BadRecordMac,
        ),
        ("a record of garbage", vec![Raw([&[23, 3, 3, 0, 99][..], &[7; 99]].concat())], Alert::BadRecordMac),
        ("padding alone", vec![Inner(vec![0; 20])], Alert::UnexpectedMessage),
        ("too much content", vec![Inner(overlong)], Alert::RecordOverflow),
        ("an unknown type", vec![Record(ContentType::Unknown(99), vec![1])], Alert::UnexpectedMessage),
        ("a heartbeat", vec![Record(ContentType::Heartbeat, vec![1])], Alert::UnexpectedMessage),
        (
            "a sealed change of cipher spec",
            vec![Record(ContentType::ChangeCipherSpec, vec![1])],
            Alert::UnexpectedMessage,
        ),
        ("empty records without end", (0..65).map(|_| data(b"")).collect(), Alert::UnexpectedMessage),
        ("half an alert", vec![alert(&[2])], Alert::DecodeError),
        ("two alerts in one record", vec![alert(&[1, 90, 1, 0])], Alert::DecodeError),
        ("an empty alert", vec![alert(&[])], Alert::DecodeError),
        ("warnings without end", (0..65).map(|_| alert(&[1, 90])).collect(), Alert::UnexpectedMessage),
        ("an empty handshake record", vec![message(&[])], Alert::UnexpectedMessage),
        ("a key update of another kind", vec![message(&[24, 0, 0, 1, 2])], Alert::IllegalParameter),
        ("an empty key update", vec![message(&[24, 0, 0, 0])], Alert::DecodeError),
        ("a long key update", vec![message(&[24, 0, 0, 2, 0, 0])], Alert::DecodeError),
        (
            "two key updates in one record",
            vec![message(&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0])],
            Alert::UnexpectedMessage,
        ),
        (
            "a key update with half a message behind it",
            vec![message(&[24, 0, 0, 1, 0, 24])],
            Alert::UnexpectedMessage,
        ),
        ("the old key after an update", vec![message(&[24, 0, 0, 1, 0]), data(b"old")], Alert::BadRecordMac),
        ("a second ClientHello", vec![message(&[1, 0, 0, 1, 0])], Alert::UnexpectedMessage),
        ("a second Finished", vec![message(&[20, 0, 0, 1, 0])], Alert::UnexpectedMessage),
        ("a CertificateRequest", vec![message(&[13, 0, 0, 1, 0])], Alert::UnexpectedMessage),
        ("a message that is too long", vec![message(&[4, 1, 0, 0])], Alert::DecodeError),
        ("data within a message", vec![message(&[24, 0]), data(b"data")], Alert::UnexpectedMessage),
        ("an alert within a message", vec![message(&[24]), alert(&[1, 0])], Alert::UnexpectedMessage),
        (
            "a message in too many pieces",
            std::iter::once(message(&[4, 0, 0xff])).chain((0..64).map(|_| message(&[0]))).collect(),
            Alert::UnexpectedMessage,
        ),
    ];
    for (index, (what, sent, expected)) in cases.into_iter().enumerate() {
        arena.refused(index % 2 == 0, what, sent, expected).await;
    }
}

#[tokio::test]
async fn tickets_come_from_servers_alone_and_well_formed() {
    let arena = Arena::new();
    let ticket = [4, 0, 0, 14, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 7, 0, 0];
    arena.refused(true, "a client's ticket", vec![message(&ticket)], Alert::UnexpectedMessage).await;
    arena.refused(false, "half a ticket", vec![message(&[4, 0, 0, 2, 0, 0])], Alert::DecodeError).await;
    let (mut client, mut server) = ours(&arena.client, &arena.server).await;
    put(&mut server, &[message(&ticket[..7]), message(&ticket[7..]), data(b"ok")]);
    bytes::send(&mut server, b"").await.unwrap();
    assert_eq!(read(&mut client, 2).await, b"ok");
}

#[tokio::test]
async fn a_message_in_pieces_is_joined() {
    let arena = Arena::new();
    let (mut client, mut server) = ours(&arena.client, &arena.server).await;
    for _ in 0..3 {
        put(&mut client, &[message(&[24, 0]), message(&[0, 1])]);
        // The last piece, and then the new key.
        let updated = match &mut *client.after.side {
            after::Side::Client(connection) => connection.update_tx_secret().unwrap(),
            after::Side::Server(_) => panic!("a client"),
        };
        put(&mut client, &[message(&[1])]);
        client.sealing = Keys::new(updated).unwrap();
        bytes::send(&mut client, b"ping").await.unwrap();
        assert_eq!(read(&mut server, 4).await, b"ping");
        // It asked for new keys of the server's.
        assert!(server.after.owes_key_update());
        bytes::send(&mut server, b"pong").await.unwrap();
        assert_eq!(server.sealing.sequence(), 1);
        assert_eq!(read(&mut client, 4).await, b"pong");
    }
}

#[tokio::test]
async fn a_record_that_was_left_out_or_sent_twice_ends_it() {
    let arena = Arena::new();
    for twice in [true, false] {
        let (mut client, mut server) = ours(&arena.client, &arena.server).await;
        put(&mut client, &[data(b"one")]);
        let first = client.outgoing.filled().to_vec();
        if twice {
            put(&mut client, &[Raw(first)]);
        } else {
            client.outgoing.clear();
            put(&mut client, &[data(b"two")]);
        }
        bytes::send(&mut client, b"").await.unwrap();
        let (got, end) = read_all(&mut server).await;
        assert_eq!(got, if twice { &b"one"[..] } else { b"" });
        assert!(end.is_err());
        assert_eq!(server.reading, Reading::Failed { alert: Alert::BadRecordMac, ours: true });
    }
}

#[tokio::test]
async fn the_end_is_regular_only_if_the_other_side_says_so() {
    let arena = Arena::new();
    let ends = async |sent: &[Sends]| {
        let (mut client, mut server) = ours(&arena.client, &arena.server).await;
        put(&mut client, sent);
        bytes::send(&mut client, b"").await.unwrap();
        drop(client);
        let (got, end) = read_all(&mut server).await;
        (got, end.map_err(|error| (error.kind(), error.to_string())))
    };
    let (got, end) = ends(&[data(b"ok"), alert(&[1, 90]), alert(&[1, 0]), data(b"late")]).await;
    assert_eq!((&got[..], end), (&b"ok"[..], Ok(())));
    let (got, end) = ends(&[data(b"ok")]).await;
    assert_eq!((&got[..], end.unwrap_err().0), (&b"ok"[..], io::ErrorKind::UnexpectedEof));
    let (got, end) = ends(&[data(b"ok"), Raw(vec![23, 3, 3, 0, 50, 1, 2])]).await;
    assert_eq!((&got[..], end.unwrap_err().0), (&b"ok"[..], io::ErrorKind::UnexpectedEof));
    // Also a mere warning, when it is not one of the two that are known (RFC 8446 §6).
    for level in [1, 2] {
        let (got, end) = ends(&[data(b"ok"), alert(&[level, 80]), data(b"late")]).await;
        assert_eq!(&got[..], b"ok");
        assert!(end.unwrap_err().1.contains("InternalError"));
    }
}

/// A connection may have been closed for writing while reading goes on.
#[tokio::test]
async fn each_half_is_closed_on_its_own() {
    let arena = Arena::new();
    let (mut client, mut server) = ours(&arena.client, &arena.server).await;
    bytes::send(&mut client, b"question").await.unwrap();
    bytes::shutdown(&mut client).await.unwrap();
    bytes::shutdown(&mut client).await.unwrap();
    assert_eq!(bytes::send(&mut client, b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let (got, end) = read_all(&mut server).await;
    assert!(got == b"question" && end.is_ok());
    bytes::send(&mut server, &pattern(300_000)).await.unwrap();
    bytes::shutdown(&mut server).await.unwrap();
    let (got, end) = read_all(&mut client).await;
    assert!(got == pattern(300_000) && end.is_ok());
}

#[tokio::test]
async fn a_reset_is_not_a_regular_end() {
    let arena = Arena::new();
    let (mut client, mut server) = ours(&arena.client, &arena.server).await;
    bytes::send(&mut client, b"ok").await.unwrap();
    assert_eq!(read(&mut server, 2).await, b"ok");
    client.reset();
    drop(client);
    let (_, end) = read_all(&mut server).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// What waits for a reader that does not read has a bound, and none of it is lost.
#[tokio::test]
async fn a_slow_reader_bounds_what_waits_for_it() {
    let arena = Arena::new();
    let (mut client, mut server) = ours(&arena.client, &arena.server).await;
    let part = pattern(10_007);
    let mut sent = 0_usize;
    let mut expected = Vec::new();
    poll_fn(|cx| {
        loop {
            let half = part.len() / 2;
            let slices = [IoSlice::new(&part[..half]), IoSlice::new(&part[half..])];
            match ByteStream::poll_write(&mut client, cx, &slices) {
                Poll::Ready(count) => {
                    let count = count.unwrap();
                    expected.extend_from_slice(&part[..count]);
                    sent += count;
                    let _ = ByteStream::poll_flush(&mut client, cx);
                }
                Poll::Pending => return Poll::Ready(()),
            }
            assert!(client.outgoing.len() <= MOST_WAITING + record::MAX_RECORD, "{}", client.outgoing.len());
            assert!(sent < 64 * 1024 * 1024);
        }
    })
    .await;
    let reading = read(&mut server, sent);
    let flushing = poll_fn(|cx| ByteStream::poll_flush(&mut client, cx));
    let (got, flushed) = tokio::join!(reading, flushing);
    flushed.unwrap();
    assert!(got == expected);
    assert!(client.outgoing.is_empty() && server.incoming.is_empty());
}
