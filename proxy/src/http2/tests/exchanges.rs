use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll};

use futures_util::{FutureExt as _, future::join_all};
use tokio::sync::oneshot;

use super::support::*;
use crate::{
    http2::*,
    message::{BodyError, BodySink as _, BodySource as _, Fields, Part},
};

#[test]
fn an_exchange_with_interim_heads_a_body_and_trailers_both_ways() {
    run(async {
        let client = client_of(&Settings::default(), |head, mut stream| async move {
            assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/a?b"));
            assert_eq!(head.fields.get("x-a"), Some(&b"1"[..]));
            for status in [100, 103, 200] {
                stream.send_response_head(&response(status), false);
            }
            let (body, trailers) = body(&mut stream).await.unwrap();
            send(&mut stream, &body).await.unwrap();
            stream.end(Some(&trailers)).unwrap();
        });
        let mut head = request("POST", "/a?b");
        head.fields.push(b"X-A", b"1");
        let mut stream = client.open(&head, false).unwrap();
        send(&mut stream, b"hello").await.unwrap();
        let trailers: Fields = [("grpc-status", "0")].into_iter().collect();
        stream.end(Some(&trailers)).unwrap();
        for status in [100, 103, 200] {
            assert_eq!(super::support::head(&mut stream).await.unwrap().status, status);
        }
        assert_eq!(body(&mut stream).await.unwrap(), (b"hello".to_vec(), trailers));
        assert_eq!(client.active_streams(), 0);
    });
}

#[test]
fn many_bodies_larger_than_any_window_at_once() {
    run(async {
        let client = client_of(&Settings { max_frame: settings::LONG_FRAME, ..Settings::default() }, echo);
        let exchanges = (0..20_u8).map(|number| {
            let mut stream = client.open(&request("POST", "/"), false).unwrap();
            async move {
                let data = vec![number; 3_000_000 + usize::from(number)];
                let mut sent = 0;
                let mut received = 0;
                let mut ended = false;
                poll_fn(|cx| {
                    while sent < data.len() {
                        match stream.poll_data(cx, &data[sent..], None) {
                            Poll::Ready(count) => sent += count.unwrap(),
                            Poll::Pending => break,
                        }
                    }
                    if sent == data.len() && !std::mem::replace(&mut ended, true) {
                        stream.end(None).unwrap();
                    }
                    let mut head = response(0);
                    if received == 0 {
                        std::task::ready!(stream.poll_response_head(cx, &mut head)).unwrap();
                        received = 1;
                    }
                    loop {
                        match std::task::ready!(stream.poll_part(cx)).unwrap() {
                            Part::Data { .. } => {
                                assert!(stream.data().iter().all(|octet| *octet == number));
                                let count = stream.data().len();
                                received += count;
                                stream.consume(count);
                            }
                            _ => return Poll::Ready(()),
                        }
                    }
                })
                .await;
                assert_eq!(received - 1, data.len());
            }
        });
        join_all(exchanges).await;
    });
}

#[test]
fn a_slow_reader_does_not_stall_its_neighbours() {
    run(async {
        let client = client_of(&Settings::default(), |head, mut stream| async move {
            stream.send_response_head(&response(200), false);
            let size = if head.target == "/slow" { 10 << 20 } else { 1000 };
            let _ = send(&mut stream, &vec![7; size]).await;
            let _ = stream.end(None);
        });
        let mut slow: Vec<_> =
            (0..10).map(|_| client.open(&request("GET", "/slow"), true).unwrap()).collect();
        for stream in &mut slow {
            head(stream).await.unwrap();
        }
        for _ in 0..100 {
            let mut stream = client.open(&request("GET", "/quick"), true).unwrap();
            assert_eq!(body(&mut stream).await.unwrap().0.len(), 1000);
        }
        for stream in &mut slow {
            assert_eq!(poll_fn(|cx| stream.poll_part(cx)).await.unwrap(), Part::Data { chunk: None });
            assert!(stream.data().len() <= 64 << 10, "what is unread is bounded");
        }
        assert_eq!(body(&mut slow[3]).await.unwrap().0.len(), 10 << 20);
    });
}

#[test]
fn an_early_answer_is_complete_and_stops_the_request() {
    run(async {
        let client = client_of(&Settings::default(), |_, mut stream| async move {
            stream.send_response_head(&response(413), true);
        });
        let mut stream = client.open(&request("POST", "/"), false).unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 413);
        assert_eq!(body(&mut stream).await.unwrap().0, b"");
        let stopped = loop {
            match send(&mut stream, &[0; 10_000]).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert!(matches!(stopped, BodyError::Reset(0)), "{stopped:?}");
    });
}

#[test]
fn a_stream_that_is_dropped_is_reset_for_the_other_side() {
    run(async {
        let (tell, told) = oneshot::channel();
        let tell = Cell::new(Some(tell));
        let client = client_of(&Settings::default(), move |_, mut stream| {
            let tell = tell.take().unwrap();
            async move {
                stream.send_response_head(&response(200), false);
                let why = poll_fn(|cx| stream.poll_reset(cx)).await;
                poll_fn(|cx| stream.poll_part(cx)).await.unwrap_err();
                send(&mut stream, b"late").await.unwrap_err();
                tell.send(why.to_string()).unwrap();
            }
        });
        let mut stream = client.open(&request("POST", "/"), false).unwrap();
        head(&mut stream).await.unwrap();
        drop(stream);
        assert_eq!(told.await.unwrap(), "the peer reset the stream: CANCEL");
        assert_eq!(client.active_streams(), 0);
    });
}

#[test]
fn a_server_that_gives_up_resets_the_stream_and_what_came_before_is_still_read() {
    run(async {
        let client = client_of(&Settings::default(), |_, mut stream| async move {
            stream.send_response_head(&response(200), false);
            send(&mut stream, b"half").await.unwrap();
            stream.reset(ErrorCode::INTERNAL_ERROR);
        });
        let mut stream = client.open(&request("GET", "/"), true).unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 200);
        assert_eq!(poll_fn(|cx| stream.poll_part(cx)).await.unwrap(), Part::Data { chunk: None });
        assert_eq!(stream.data(), b"half");
        stream.consume(4);
        let error = poll_fn(|cx| stream.poll_part(cx)).await.unwrap_err();
        assert!(matches!(error, BodyError::Reset(2)), "{error:?}");
    });
}

#[test]
fn as_many_streams_as_the_server_allows() {
    run(async {
        let settings = Settings { max_streams: 2, ..Settings::default() };
        let client = client_of(&settings, |_, mut stream| async move {
            body(&mut stream).await.unwrap();
            stream.send_response_head(&response(204), true);
        });
        let mut first = client.open(&request("GET", "/"), true).unwrap();
        assert_eq!(head(&mut first).await.unwrap().status, 204);
        let mut open = client.open(&request("POST", "/"), false).unwrap();
        let _other = client.open(&request("POST", "/"), false).unwrap();
        assert_eq!(client.open(&request("GET", "/"), true).err(), Some(OpenError::TooManyStreams));
        open.end(None).unwrap();
        assert_eq!(head(&mut open).await.unwrap().status, 204);
        assert!(client.can_open());
    });
}

/// A client session, its server, and what becomes of both of their drivers.
struct Both {
    client: Session,
    server: Session,
    ends: [tokio::task::JoinHandle<Result<(), ConnectionError>>; 2],
}

fn both() -> Both {
    let (near, far) = pipe(64 << 10);
    let client = Session::new(Role::Client, &Settings::default());
    let server = Session::new(Role::Server, &Settings::default());
    let ends = [
        tokio::task::spawn_local(drive(client.clone(), near)),
        tokio::task::spawn_local(serve(server.clone(), far, echo)),
    ];
    Both { client, server, ends }
}

#[test]
fn a_server_that_shuts_down_serves_what_runs_and_ends_with_it() {
    run(async {
        let Both { client, server, ends } = both();
        let mut running = client.open(&request("POST", "/"), false).unwrap();
        head(&mut running).await.unwrap();
        server.shutdown();
        // Opened before the client could know.
        let mut last = client.open(&request("POST", "/"), false).unwrap();
        assert_eq!(head(&mut last).await.unwrap().status, 200);
        assert_eq!(client.open(&request("GET", "/"), true).err(), Some(OpenError::GoingAway));
        for stream in [&mut running, &mut last] {
            send(stream, b"done").await.unwrap();
            stream.end(None).unwrap();
            assert_eq!(body(stream).await.unwrap().0, b"done");
        }
        for end in ends {
            end.await.unwrap().unwrap();
        }
        assert!(client.is_closed() && server.is_closed());
        assert_eq!(client.open(&request("GET", "/"), true).err(), Some(OpenError::Closed));
    });
}

#[test]
fn a_client_that_shuts_down_finishes_what_runs() {
    run(async {
        let Both { client, server: _, ends } = both();
        let mut running = client.open(&request("POST", "/"), false).unwrap();
        head(&mut running).await.unwrap();
        client.shutdown();
        assert!(!client.can_open());
        running.end(None).unwrap();
        body(&mut running).await.unwrap();
        for end in ends {
            end.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_transport_that_breaks_ends_all_streams() {
    run(async {
        let (near, far) = pipe(64 << 10);
        let client = Session::new(Role::Client, &Settings::default());
        let end = tokio::task::spawn_local(drive(client.clone(), near));
        let mut stream = client.open(&request("POST", "/"), false).unwrap();
        assert!(head(&mut stream).now_or_never().is_none());
        drop(far);
        let error = head(&mut stream).await.unwrap_err();
        assert!(matches!(error, StreamError::Connection(_)), "{error:?}");
        end.await.unwrap().unwrap_err();
    });
}

#[test]
fn a_driver_that_ends_on_its_own_account_ends_all_streams() {
    run(async {
        let client = Session::new(Role::Client, &Settings::default());
        let mut stream = client.open(&request("POST", "/"), false).unwrap();
        client.close();
        let error = head(&mut stream).await.unwrap_err();
        assert!(matches!(error, StreamError::Connection(ConnectionError::Closed)), "{error:?}");
    });
}

#[test]
fn those_who_get_no_room_are_ended_after_two_looks() {
    run(async {
        let Both { client, server, .. } = both();
        let mut stalled = client.open(&request("POST", "/"), false).unwrap();
        let mut fine = client.open(&request("POST", "/"), false).unwrap();
        head(&mut fine).await.unwrap();
        // The echo has no room because nobody reads it.
        let error = loop {
            match send(&mut stalled, &[0; 10_000]).now_or_never() {
                Some(Ok(())) => {}
                Some(Err(error)) => break error,
                None => {
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                    }
                    client.tend();
                    server.tend();
                }
            }
        };
        assert!(matches!(&error, BodyError::Io(_) | BodyError::Reset(0xb)), "{error:?}");
        fine.end(None).unwrap();
        body(&mut fine).await.unwrap();
    });
}

#[test]
fn who_asks_for_room_once_more_has_not_moved() {
    run(async {
        let client = client_of(&Settings::default(), |_, stream| async move {
            let _unread = stream;
            std::future::pending().await
        });
        let mut stream = client.open(&request("POST", "/"), false).unwrap();
        for _ in 0..50 {
            while matches!(send(&mut stream, &[0; 10_000]).now_or_never(), Some(Ok(()))) {}
            tokio::task::yield_now().await;
        }
        assert_eq!(client.tend(), 0);
        assert!(send(&mut stream, b"more").now_or_never().is_none());
        assert_eq!(client.tend(), 1);
    });
}

#[test]
fn phases_tell_what_a_connection_is_busy_with() {
    run(async {
        let Both { client, server, .. } = both();
        assert_eq!((client.activity(), server.activity()), (Activity::Head, Activity::Head));
        let mut stream = client.open(&request("POST", "/"), false).unwrap();
        head(&mut stream).await.unwrap();
        assert_eq!((client.activity(), server.activity()), (Activity::Busy, Activity::Busy));
        stream.end(None).unwrap();
        body(&mut stream).await.unwrap();
        drop(stream);
        assert_eq!((client.activity(), server.activity()), (Activity::Idle, Activity::Idle));
    });
}

#[test]
fn one_write_carries_what_all_streams_said_in_a_turn() {
    /// Counts writes.
    struct Counting(Pipe, Rc<Cell<u32>>);

    impl crate::io::ByteStream for Counting {
        fn poll_fill(
            &mut self,
            cx: &mut std::task::Context<'_>,
            into: &mut crate::io::Buffer,
            limit: usize,
        ) -> Poll<std::io::Result<usize>> {
            self.0.poll_fill(cx, into, limit)
        }

        fn poll_write(
            &mut self,
            cx: &mut std::task::Context<'_>,
            from: &[std::io::IoSlice<'_>],
        ) -> Poll<std::io::Result<usize>> {
            self.1.set(self.1.get() + 1);
            self.0.poll_write(cx, from)
        }

        fn poll_flush(&mut self, cx: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
            self.0.poll_flush(cx)
        }

        fn poll_shutdown(&mut self, cx: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
            self.0.poll_shutdown(cx)
        }

        fn reset(&mut self) {}
    }

    run(async {
        let (near, far) = pipe(1 << 20);
        let writes = Rc::new(Cell::new(0));
        let client = Session::new(Role::Client, &Settings::default());
        let server = Session::new(Role::Server, &Settings::default());
        tokio::task::spawn_local(drive(client.clone(), near));
        let mut transport = Counting(far, Rc::clone(&writes));
        tokio::task::spawn_local(async move {
            poll_fn(|cx| {
                let over = server.poll_drive(cx, &mut transport);
                while let Some((head, stream)) = server.accept() {
                    tokio::task::spawn_local(echo(head, stream));
                }
                over
            })
            .await
        });
        let mut warm = client.open(&request("GET", "/"), true).unwrap();
        body(&mut warm).await.unwrap();
        let before = writes.get();
        for _ in 0..10 {
            let mut streams: Vec<_> =
                (0..50).map(|_| client.open(&request("GET", "/"), true).unwrap()).collect();
            for stream in &mut streams {
                body(stream).await.unwrap();
            }
        }
        assert_eq!(writes.get() - before, 10, "one for each round of 50");
    });
}
