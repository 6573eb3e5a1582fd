use std::{cell::Cell, future::poll_fn, io, rc::Rc, task::Poll};

use super::support::*;
use crate::{
    http2::*,
    io::{Buffer, ByteStream as _},
    message::RequestHead,
};

async fn read(tunnel: &mut Tunnel) -> io::Result<Vec<u8>> {
    let mut buffer = Buffer::new();
    poll_fn(|cx| tunnel.poll_fill(cx, &mut buffer, 1 << 20)).await?;
    Ok(buffer.filled().to_vec())
}

async fn write(tunnel: &mut Tunnel, data: &[u8]) -> io::Result<()> {
    let (one, two) = data.split_at(data.len() / 2);
    let slices = [io::IoSlice::new(one), io::IoSlice::new(&[]), io::IoSlice::new(two)];
    let count = poll_fn(|cx| tunnel.poll_write(cx, &slices)).await?;
    assert_eq!(count, data.len());
    poll_fn(|cx| tunnel.poll_flush(cx)).await
}

/// Answers octets in reverse until the end, then ends as well.
async fn reverse(head: RequestHead, mut stream: Stream) {
    assert_eq!((head.method.as_str(), head.authority.as_str()), ("CONNECT", "app:80"));
    stream.send_response_head(&response(200), false);
    let mut tunnel = Tunnel::new(stream);
    loop {
        let mut data = read(&mut tunnel).await.unwrap();
        if data.is_empty() {
            write(&mut tunnel, b"bye").await.unwrap();
            return poll_fn(|cx| tunnel.poll_shutdown(cx)).await.unwrap();
        }
        data.reverse();
        write(&mut tunnel, &data).await.unwrap();
    }
}

#[test]
fn octets_go_both_ways_and_each_side_ends_by_itself() {
    run(async {
        let client = client_of(&Settings::default(), reverse);
        let mut tunnel = Tunnel::connecting(client.open(&connect(), false).unwrap());
        // Before the answer is here.
        write(&mut tunnel, b"olleh").await.unwrap();
        assert_eq!(read(&mut tunnel).await.unwrap(), b"hello");
        poll_fn(|cx| tunnel.poll_shutdown(cx)).await.unwrap();
        assert_eq!(read(&mut tunnel).await.unwrap(), b"bye");
        assert_eq!(read(&mut tunnel).await.unwrap(), b"");
        assert_eq!(client.active_streams(), 0);
    });
}

#[test]
fn a_protocol_is_named_with_scheme_and_path() {
    run(async {
        let client = client_of(&Settings::default(), |head, mut stream| async move {
            assert_eq!(
                (head.protocol.as_str(), head.scheme.as_str(), head.target.as_str()),
                ("http/1.1", "https", "/")
            );
            stream.send_response_head(&response(200), false);
            let mut tunnel = Tunnel::new(stream);
            let request = read(&mut tunnel).await.unwrap();
            write(&mut tunnel, &request).await.unwrap();
        });
        let head = RequestHead { protocol: "http/1.1".into(), ..request("CONNECT", "/") };
        let mut tunnel = Tunnel::connecting(client.open(&head, false).unwrap());
        write(&mut tunnel, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(read(&mut tunnel).await.unwrap(), b"GET / HTTP/1.1\r\n\r\n");
        // The other side dropped its end without ending it.
        let error = read(&mut tunnel).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_tunnel_that_is_refused_says_how() {
    run(async {
        let client = client_of(&Settings::default(), |_, mut stream| async move {
            let mut head = response(403);
            head.fields.push(b"x-why", b"denied");
            stream.send_response_head(&head, true);
        });
        let mut tunnel = Tunnel::connecting(client.open(&connect(), false).unwrap());
        let error = read(&mut tunnel).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let refused = tunnel.refused().unwrap();
        assert_eq!((refused.status, refused.fields.get("x-why")), (403, Some(&b"denied"[..])));
    });
}

#[test]
fn a_reset_is_told_as_one_on_both_sides() {
    run(async {
        let (tell, told) = tokio::sync::oneshot::channel();
        let tell = std::cell::Cell::new(Some(tell));
        let client = client_of(&Settings::default(), move |_, mut stream| {
            let tell = tell.take().unwrap();
            async move {
                stream.send_response_head(&response(200), false);
                let mut tunnel = Tunnel::new(stream);
                assert_eq!(read(&mut tunnel).await.unwrap(), b"hello");
                let error = read(&mut tunnel).await.unwrap_err();
                write(&mut tunnel, b"late").await.unwrap_err();
                tell.send(error).unwrap();
            }
        });
        let mut tunnel = Tunnel::connecting(client.open(&connect(), false).unwrap());
        write(&mut tunnel, b"hello").await.unwrap();
        poll_fn(|cx| tunnel.poll_connected(cx)).await.unwrap();
        tunnel.reset();
        assert_eq!(told.await.unwrap().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_server_tells_a_reset_behind_it_as_a_connect_error() {
    run(async {
        let client = client_of(&Settings::default(), |_, mut stream| async move {
            stream.send_response_head(&response(200), false);
            Tunnel::new(stream).reset();
        });
        let mut stream = client.open(&connect(), false).unwrap();
        head(&mut stream).await.unwrap();
        let error = body(&mut stream).await.unwrap_err();
        assert!(matches!(error, crate::message::BodyError::Reset(0xa)), "{error:?}");
    });
}

#[test]
fn nothing_but_data_goes_through_a_tunnel() {
    use super::super::frame::{flag, kind};
    let mut raw = Raw::client();
    let block = raw.block(&[(":method", "CONNECT"), (":authority", "app:80")]);
    raw.send(kind::HEADERS, flag::END_HEADERS, 1, &block);
    let trailers = raw.block(&[("a", "b")]);
    raw.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &trailers);
    assert_eq!(raw.frames().iter().find_map(Frame::reset), Some((1, ErrorCode::PROTOCOL_ERROR)));
}

#[test]
fn a_tunnel_may_wait_for_its_reader() {
    run(async {
        let (near, far) = pipe(64 << 10);
        let (client, server) = (
            Session::new(Role::Client, &Settings::default()),
            Session::new(Role::Server, &Settings::default()),
        );
        tokio::task::spawn_local(drive(client.clone(), near));
        let serving = serve(server.clone(), far, |_, mut stream| async move {
            stream.send_response_head(&response(200), false);
            let mut tunnel = Tunnel::new(stream);
            while write(&mut tunnel, b"more").await.is_ok() {}
        });
        tokio::task::spawn_local(serving);
        let mut tunnel = Tunnel::connecting(client.open(&connect(), false).unwrap());
        assert!(read(&mut tunnel).await.unwrap().starts_with(b"more"));
        for _ in 0..3 {
            // Time enough for the window to be used up.
            tokio::time::sleep(TEND_EVERY).await;
            assert_eq!((client.tend(), server.tend()), (0, 0));
        }
        assert!(read(&mut tunnel).await.unwrap().starts_with(b"more"));
    });
}

/// The network in between is cut: nothing arrives any more, and nobody is told.
#[test]
fn a_peer_that_has_gone_without_a_word_is_noticed() {
    run(async {
        let (near, mut far) = pipe(64 << 10);
        let client = Session::new(Role::Client, &Settings::default());
        let server = Session::new(Role::Server, &Settings::default());
        tokio::task::spawn_local(drive(client.clone(), near));
        let is_cut = Rc::new(Cell::new(false));
        let cut = Rc::clone(&is_cut);
        tokio::task::spawn_local(async move {
            let served = poll_fn(|cx| match is_cut.get() {
                true => Poll::Pending,
                false => server.poll_drive(cx, &mut far),
            });
            served.await
        });
        let mut tunnel = Tunnel::connecting(client.open(&connect(), false).unwrap());
        for _ in 0..5 {
            tokio::time::sleep(PROBE_EVERY).await;
            client.probe();
            assert!(!client.is_closed(), "it answers");
        }
        cut.set(true);
        for _ in 0..3 {
            tokio::time::sleep(PROBE_EVERY).await;
            client.probe();
        }
        let error = read(&mut tunnel).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(client.is_closed());
    });
}
