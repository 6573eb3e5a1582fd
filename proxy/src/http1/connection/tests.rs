use std::{future::poll_fn, io::IoSlice, pin::Pin};
use svidecar_code::Code;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

use super::*;
use crate::message::{BodyError, BodySink, BodySource, Part};

/// One end of a pipe in memory, and what was done with it.
struct Pipe {
    inner: DuplexStream,
    reads: usize,
    writes: usize,
}

impl ByteStream for Pipe {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut space = ReadBuf::new(&mut into.space(limit)[..limit]);
        let outcome = Pin::new(&mut self.inner).poll_read(cx, &mut space);
        let count = space.filled().len();
        into.commit(count);
        self.reads += usize::from(outcome.is_ready());
        outcome.map_ok(|()| count)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = from.iter().flat_map(|slice| slice.iter().copied()).collect();
        let outcome = Pin::new(&mut self.inner).poll_write(cx, &bytes);
        self.writes += usize::from(outcome.is_ready());
        outcome
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn reset(&mut self) {}
}

/// A connection, and the other end of its pipe, which takes `size` bytes without being read.
fn connection(size: usize) -> (Connection<Pipe>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(size);
    let pipe = Pipe { inner: ours, reads: 0, writes: 0 };
    (Connection::new(pipe, Limits { bytes: 4096, fields: 16 }), theirs)
}

async fn request(connection: &mut Connection<Pipe>) -> Result<Option<RequestHead>, HeadError> {
    let mut head = RequestHead::default();
    let came = poll_fn(|cx| connection.poll_request_head(cx, &mut head)).await?;
    Ok(came.then_some(head))
}

async fn response(connection: &mut Connection<Pipe>) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::default();
    poll_fn(|cx| connection.poll_response_head(cx, &mut head)).await?;
    Ok(head)
}

/// Receives a body to its end: its bytes and its trailers.
async fn body(connection: &mut Connection<Pipe>) -> Result<(Vec<u8>, Fields), BodyError> {
    let (mut bytes, mut trailers) = (Vec::new(), Fields::new());
    loop {
        match poll_fn(|cx| connection.poll_part(cx)).await? {
            Part::Data { .. } => {
                bytes.extend_from_slice(connection.data());
                let count = connection.data().len();
                connection.consume(count);
            }
            Part::Trailers => trailers = connection.trailers().clone(),
            Part::End => return Ok((bytes, trailers)),
        }
    }
}

async fn send(connection: &mut Connection<Pipe>, mut data: &[u8]) -> Result<(), BodyError> {
    while !data.is_empty() {
        let count = poll_fn(|cx| connection.poll_data(cx, data, None)).await?;
        data = &data[count..];
    }
    Ok(())
}

async fn flush(connection: &mut Connection<Pipe>) {
    poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
}

#[tokio::test]
async fn requests_follow_one_another_however_they_come() {
    let (mut server, mut client) = connection(1 << 16);
    let requests = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nPOST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    for size in [1, 2, 7, 40, requests.len()] {
        let writing = async {
            for piece in requests.chunks(size) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let reading = async {
            for (target, text, trailer) in
                [("/1", &b"abc"[..], None), ("/2", b"", None), ("/3", b"abc", Some(&b"y"[..]))]
            {
                let head = request(&mut server).await.unwrap().unwrap();
                assert_eq!(head.target, target);
                server.receive_body(Framing::of_request(&head).unwrap());
                let (bytes, trailers) = body(&mut server).await.unwrap();
                assert_eq!((bytes.as_slice(), trailers.get("x")), (text, trailer), "pieces of {size}");
                assert!(server.is_received());
            }
            assert!(server.is_reusable());
        };
        tokio::join!(writing, reading);
    }
    drop(client);
    assert!(request(&mut server).await.unwrap().is_none());
    assert!(!server.is_reusable());
}

#[tokio::test]
async fn head_and_body_leave_in_one_write() {
    let (mut client, mut server) = connection(1 << 20);
    let head = RequestHead {
        method: "PUT".into(),
        target: "/".into(),
        fields: [("Host", "h")].into_iter().collect(),
        ..RequestHead::default()
    };
    // Small: gathered. Large: from where it is, behind the head.
    for (size, writes) in [(1000, 1), (200_000, 1)] {
        let data = vec![b'x'; size];
        client.queue_request_head(&head, Framing::Length(size as u64));
        send(&mut client, &data).await.unwrap();
        client.end(None).unwrap();
        flush(&mut client).await;
        assert_eq!(std::mem::take(&mut client.stream.writes), writes, "{size} bytes");
        let expected = format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n");
        let mut came = vec![0; expected.len() + size];
        server.read_exact(&mut came).await.unwrap();
        assert!(came.starts_with(expected.as_bytes()) && came.ends_with(&data));
    }
    assert!(client.is_sent());
}

#[tokio::test]
async fn a_large_body_is_read_in_large_pieces() {
    let (mut client, mut server) = connection(4 << 20);
    let size = 3 << 20;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    server.write_all(head.as_bytes()).await.unwrap();
    server.write_all(&vec![b'x'; size]).await.unwrap();
    let head = response(&mut client).await.unwrap();
    client.receive_body(Framing::of_response(&head, "GET").unwrap());
    assert_eq!(body(&mut client).await.unwrap().0.len(), size);
    assert!(client.stream.reads < 32, "{} reads", client.stream.reads);
}

/// Relays a response as the proxy does, chunk by chunk.
async fn relay(from: &mut Connection<Pipe>, to: &mut Connection<Pipe>) -> Result<(), BodyError> {
    loop {
        match poll_fn(|cx| from.poll_part(cx)).await? {
            Part::Data { chunk } => {
                let count = poll_fn(|cx| to.poll_data(cx, from.data(), chunk)).await?;
                from.consume(count);
            }
            Part::Trailers => {
                to.end(Some(from.trailers()))?;
                break;
            }
            Part::End => {
                to.end(None)?;
                break;
            }
        }
    }
    poll_fn(|cx| to.poll_flush(cx)).await
}

#[tokio::test]
async fn chunks_and_trailers_pass_as_they_are() {
    let (mut upstream, mut server) = connection(1 << 20);
    let (mut downstream, mut client) = connection(1 << 20);
    let large = "x".repeat(100_000);
    let text = format!(
        "HTTP/1.1 200 Fine\r\nX-A: b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n{:x}\r\n{large}\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
        large.len()
    );
    server.write_all(text.as_bytes()).await.unwrap();
    let head = response(&mut upstream).await.unwrap();
    let framing = Framing::of_response(&head, "GET").unwrap();
    upstream.receive_body(framing);
    downstream.queue_response_head(&head, framing);
    relay(&mut upstream, &mut downstream).await.unwrap();
    let mut came = vec![0; text.len()];
    client.read_exact(&mut came).await.unwrap();
    assert!(came == text.as_bytes());
    assert!(upstream.is_reusable() && downstream.is_reusable());
}

/// A reader that does not read stops the writer, which keeps little.
#[tokio::test]
async fn a_slow_reader_holds_back_the_writer() {
    for framing in [Framing::Chunked, Framing::Length(1 << 30), Framing::UntilClose] {
        let (mut server, mut client) = connection(1000);
        server.queue_response_head(&ResponseHead { status: 200, ..ResponseHead::default() }, framing);
        let data = vec![b'x'; 100_000];
        let mut taken = 0;
        let outcome = loop {
            let outcome = poll_fn(|cx| Poll::Ready(server.poll_data(cx, &data, None))).await;
            match outcome {
                Poll::Ready(count) => taken += count.unwrap(),
                Poll::Pending => break outcome,
            }
        };
        assert!(outcome.is_pending());
        assert!(taken < 20_000, "{taken} bytes were taken");
        assert!(server.write.len() < 20_000);
        let reading = async {
            let mut came = [0; 1000];
            while client.read(&mut came).await.unwrap() > 0 {}
        };
        tokio::select! {
            count = poll_fn(|cx| server.poll_data(cx, &data, None)) => assert!(count.unwrap() > 0),
            () = reading => panic!("the writer has gone"),
        }
    }
}

#[tokio::test]
async fn a_body_is_as_long_as_its_head_says() {
    let head = ResponseHead { status: 200, ..ResponseHead::default() };
    for (framing, data, too_long, too_short) in [
        (Framing::Length(3), &b"abcd"[..], true, false),
        (Framing::Length(3), b"ab", false, true),
        (Framing::Length(0), b"a", true, false),
        (Framing::None, b"a", true, false),
        (Framing::Length(3), b"abc", false, false),
        (Framing::None, b"", false, false),
        (Framing::Chunked, b"abc", false, false),
    ] {
        let (mut server, _client) = connection(1000);
        server.queue_response_head(&head, framing);
        assert_eq!(send(&mut server, data).await.is_err(), too_long, "{framing:?}");
        if !too_long {
            assert_eq!(server.end(None).is_err(), too_short, "{framing:?}");
            assert_ne!(server.is_sent(), too_short, "{framing:?}");
        }
    }
}

/// Wherever the other side closes, what was not complete is told to be so.
#[tokio::test]
async fn a_close_in_the_middle_is_never_an_end() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\n";
    for message in [
        format!("{head}Content-Length: 3\r\n\r\nabc"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
    ] {
        let end_of_head = message.find("\r\n\r\n").unwrap() + 4;
        for size in 0..message.len() {
            let (mut server, mut client) = connection(1000);
            client.write_all(&message.as_bytes()[..size]).await.unwrap();
            drop(client);
            match request(&mut server).await {
                Ok(None) => assert_eq!(size, 0),
                Err(HeadError::Closed) => assert!((1..end_of_head).contains(&size)),
                Ok(Some(head)) => {
                    assert!(size >= end_of_head);
                    server.receive_body(Framing::of_request(&head).unwrap());
                    assert!(matches!(body(&mut server).await, Err(BodyError::Closed)), "at {size}");
                }
                Err(error) => panic!("{error} at {size}"),
            }
        }
    }
}

#[tokio::test]
async fn a_response_may_end_with_its_connection() {
    let (mut client, mut server) = connection(1000);
    server.write_all(b"HTTP/1.0 200 OK\r\n\r\nabc").await.unwrap();
    drop(server);
    let head = response(&mut client).await.unwrap();
    client.receive_body(Framing::of_response(&head, "GET").unwrap());
    assert_eq!(body(&mut client).await.unwrap().0, b"abc");
    assert!(client.is_received() && !client.is_reusable());
    assert!(matches!(response(&mut client).await, Err(HeadError::Closed)));
    assert!(!client.head_started());
}

#[tokio::test]
async fn interim_responses_come_before_the_final_one() {
    let (mut client, mut server) = connection(1000);
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    server.write_all(text).await.unwrap();
    let (mut downstream, mut user) = connection(1000);
    for (status, interim) in [(100, true), (103, true), (200, false)] {
        let head = response(&mut client).await.unwrap();
        assert_eq!((head.status, head.is_interim()), (status, interim));
        let framing = Framing::of_response(&head, "HEAD").unwrap();
        assert_eq!(framing, Framing::None);
        downstream.queue_response_head(&head, framing);
        client.receive_body(framing);
    }
    assert_eq!(body(&mut client).await.unwrap().0, b"");
    assert!(client.is_reusable());
    flush(&mut downstream).await;
    let mut came = vec![0; text.len()];
    user.read_exact(&mut came).await.unwrap();
    assert_eq!(came, text);
}

#[tokio::test]
async fn while_nothing_is_expected_everything_is_noticed() {
    let (mut server, mut client) = connection(1000);
    assert!(poll_fn(|cx| Poll::Ready(server.poll_idle(cx))).await.is_pending());
    client.write_all(b"GET / HT").await.unwrap();
    assert!(matches!(poll_fn(|cx| server.poll_idle(cx)).await, Idle::Bytes));
    assert!(server.has_buffered() && server.head_started() && !server.is_reusable());
    client.write_all(b"TP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(request(&mut server).await.unwrap().is_some());
    assert!(!server.has_buffered() && !server.head_started());
    drop(client);
    for _ in 0..2 {
        assert!(matches!(poll_fn(|cx| server.poll_idle(cx)).await, Idle::Closed));
    }
}

#[tokio::test]
async fn a_refused_head_says_why_and_can_be_answered() {
    let (mut server, mut client) = connection(1000);
    client.write_all(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n").await.unwrap();
    let Err(HeadError::Refused(fault)) = request(&mut server).await else { panic!("it was accepted") };
    assert_eq!((fault, fault.code(), fault.code().status()), (Fault::FieldName, Code::BadRequest, 400));
    server.queue_response_head(
        &ResponseHead {
            status: fault.code().status(),
            reason: b"Bad Request".into(),
            ..ResponseHead::default()
        },
        Framing::Length(0),
    );
    flush(&mut server).await;
    poll_fn(|cx| server.poll_shutdown(cx)).await.unwrap();
    let mut came = String::new();
    client.read_to_string(&mut came).await.unwrap();
    assert_eq!(came, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
}

/// A head that never ends is refused at the limit, whatever its pieces.
#[tokio::test]
async fn a_head_has_a_largest_size_however_it_comes() {
    for size in [1, 100, 5000] {
        let (mut server, mut client) = connection(1 << 16);
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(5000));
        let writing = async {
            for piece in text.as_bytes().chunks(size) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (outcome, ()) = tokio::join!(request(&mut server), writing);
        assert!(matches!(outcome, Err(HeadError::Refused(Fault::HeadTooLarge))), "pieces of {size}");
    }
}

#[tokio::test]
async fn after_a_switch_of_protocols_nothing_that_was_read_is_lost() {
    let (mut client, mut server) = connection(1000);
    server.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello").await.unwrap();
    let head = response(&mut client).await.unwrap();
    assert!(head.status == 101 && !head.is_interim());
    let (_, read) = client.into_parts();
    assert_eq!(read.filled(), b"hello");
}
