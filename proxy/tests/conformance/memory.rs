//! Memory that does not grow with what passes through, nor with what a peer keeps back: the built binary, measured.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;

use crate::tools::{
    http2::{Frame, Http2, flag, kind, literals, setting},
    message::Framing,
    process::Process,
    scene::{App, Door, Scene},
    wire::Wire,
};

const MIB: usize = 1 << 20;

/// What a body may add to the memory of a process, however long it is.
const ALLOWANCE: usize = 16 * MIB;

/// How long the large bodies are: 5 GiB, unless the variable `LARGE_BODY_MIB` says otherwise.
fn large() -> usize {
    match std::env::var_os("LARGE_BODY_MIB") {
        Some(mib) => mib.to_str().unwrap().parse::<usize>().unwrap() * MIB,
        None => 5 << 30,
    }
}

/// How long nothing must move for a sender to count as held back. A slow machine can only make the test lenient.
const STUCK: Duration = Duration::from_millis(300);

/// How much each sidecar took at most while `work` ran.
async fn growth<T>(scene: &Scene<Process>, work: impl Future<Output = T>) -> (T, usize) {
    let processes: Vec<_> = [Some(&scene.server), scene.client.as_ref()].into_iter().flatten().collect();
    let before: Vec<usize> = processes
        .iter()
        .map(|process| {
            process.forget_peak();
            process.peak()
        })
        .collect();
    let done = work.await;
    let most =
        processes.iter().zip(before).map(|(process, before)| process.peak().saturating_sub(before)).max();
    (done, most.unwrap())
}

/// A scene whose processes have done all things once.
async fn warm(door: Door) -> (Scene<Process>, App) {
    let app = App::listen().await;
    let scene = Scene::of_processes(door, app.address).await;
    for framing in [Framing::Length(MIB as u64), Framing::Chunked] {
        transfer(&scene, &app, MIB, framing).await;
    }
    (scene, app)
}

/// A block of a body, in its framing.
fn block(framing: Framing) -> Vec<u8> {
    let block: Vec<u8> = (0..64 * 1024).map(|at: u32| (at ^ at >> 8) as u8).collect();
    match framing {
        Framing::Chunked => [b"10000\r\n", &block[..], b"\r\n"].concat(),
        _ => block,
    }
}

async fn send_body(wire: &mut Wire, size: usize, framing: Framing) {
    let bytes = block(framing);
    for _ in 0..size / (64 * 1024) {
        wire.send(&bytes).await;
    }
    if framing == Framing::Chunked {
        wire.send("0\r\n\r\n").await;
    }
}

/// Reads it and throws it away; every byte is looked at.
async fn read_body(wire: &mut Wire, size: usize, framing: Framing) {
    let expected = block(Framing::None);
    let mut read = 0;
    match framing {
        Framing::Chunked => {
            while let Some(chunk) = wire.chunk().await.unwrap() {
                assert!(repeats(&expected, read, &chunk), "at {read}");
                read += chunk.len();
            }
            wire.trailers().await.unwrap();
        }
        _ => {
            while read < size {
                let part = wire.exactly("a body", expected.len()).await.unwrap();
                assert!(part == expected, "at {read}");
                read += part.len();
            }
        }
    }
    assert_eq!(read, size);
}

/// Whether these bytes, from there on, are of a body that repeats a block.
fn repeats(block: &[u8], mut at: usize, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let expected = &block[at % block.len()..];
        let (now, later) = bytes.split_at(bytes.len().min(expected.len()));
        if now != &expected[..now.len()] {
            return false;
        }
        (at, bytes) = (at + now.len(), later);
    }
    true
}

/// One exchange with bodies of that size both ways, over HTTP/2 as far as the app.
async fn transfer_over_http2(scene: &Scene<Process>, app: &App, size: usize) {
    let stream = TcpStream::connect(scene.client.as_ref().unwrap().listener).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
    let (mut sender, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let block = Bytes::from(block(Framing::None));
    let request = Request::post("http://a/").header("content-length", size).body(()).unwrap();
    let (response, mut upload) = sender.send_request(request, false).unwrap();
    let mut served = app.accept().await;
    let up = async {
        let mut sent = 0;
        while sent < size {
            let rest = block.slice(sent % block.len()..);
            upload.reserve_capacity(rest.len());
            let room = poll_fn(|cx| upload.poll_capacity(cx)).await.unwrap().unwrap();
            let part = rest.slice(..room.min(rest.len()).min(size - sent));
            sent += part.len();
            upload.send_data(part, sent == size).unwrap();
        }
    };
    tokio::join!(up, async {
        let seen = served.head().await.request_framing().unwrap();
        assert_eq!(seen, Framing::Length(size as u64));
        read_body(&mut served, size, seen).await;
    });
    tokio::join!(
        async {
            served.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await;
            send_body(&mut served, size, Framing::None).await;
        },
        async {
            let mut download = response.await.unwrap().into_body();
            let mut read = 0;
            while let Some(part) = download.data().await {
                let part = part.unwrap();
                assert!(repeats(&block, read, &part), "at {read}");
                read += part.len();
                download.flow_control().release_capacity(part.len()).unwrap();
            }
            assert_eq!(read, size);
        }
    );
    connection.abort();
}

/// One exchange with bodies of that size both ways.
async fn transfer(scene: &Scene<Process>, app: &App, size: usize, framing: Framing) {
    let field = match framing {
        Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
        _ => format!("Content-Length: {size}"),
    };
    let mut client = scene.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n")).await;
    let mut served = app.accept().await;
    let ((), seen) = tokio::join!(send_body(&mut client, size, framing), async {
        let seen = served.head().await.request_framing().unwrap();
        read_body(&mut served, size, seen).await;
        seen
    });
    assert_eq!(seen, framing);
    let ((), ()) = tokio::join!(
        async {
            served.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{field}\r\n\r\n")).await;
            send_body(&mut served, size, framing).await;
        },
        async {
            let seen = client.head().await.response_framing("POST").unwrap();
            read_body(&mut client, size, seen).await;
        }
    );
}

/// Bodies of any length in constant memory.
#[tokio::test]
async fn a_large_body_takes_no_memory() {
    let (scene, app) = warm(Door::Pair).await;
    let large = large();
    for framing in [Framing::Length(large as u64), Framing::Chunked] {
        let ((), growth) = growth(&scene, transfer(&scene, &app, large, framing)).await;
        assert!(growth < ALLOWANCE, "{framing:?}: {} KiB more", growth >> 10);
    }
}

/// The same over HTTP/2.
#[tokio::test]
async fn a_large_body_takes_no_memory_over_http2() {
    let (scene, app) = warm(Door::Pair).await;
    transfer_over_http2(&scene, &app, MIB).await;
    let ((), growth) = growth(&scene, transfer_over_http2(&scene, &app, large())).await;
    assert!(growth < ALLOWANCE, "{} KiB more", growth >> 10);
}

/// Clients that do not read, each with an app that would send without end.
#[tokio::test]
async fn slow_readers_take_little_memory() {
    const READERS: usize = 64;
    for door in Door::BOTH {
        let (scene, app) = warm(door).await;
        let stuck = async {
            let mut held = Vec::new();
            for _ in 0..READERS {
                let mut client = scene.connect().await;
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                let mut served = app.accept().await;
                served.request().await;
                served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n").await;
                held.push((client, served));
            }
            let senders = held.iter_mut().map(|(_, served)| async {
                let block = block(Framing::None);
                served.send_until_stuck(&block, STUCK).await
            });
            futures_util::future::join_all(senders).await;
            held
        };
        let (held, growth) = growth(&scene, stuck).await;
        assert!(growth < READERS * MIB / 4 + ALLOWANCE, "{door:?}: {} KiB each", (growth >> 10) / READERS);
        drop(held);
    }
}

/// The same on one HTTP/2 connection whose streams get no window.
#[tokio::test]
async fn stalled_streams_take_little_memory() {
    const STREAMS: u32 = 100;
    for door in Door::BOTH {
        let (scene, app) = warm(door).await;
        let stuck = async {
            let wire = scene.connect_with(b"h2").await;
            let mut client = Http2::begin_with(wire, &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
            let mut held = Vec::new();
            for number in 0..STREAMS {
                client.send(Frame::get(number * 2 + 1, "/")).await;
                let mut served = app.accept().await;
                served.request().await;
                served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n").await;
                held.push(served);
            }
            let senders = held.iter_mut().map(|served| async {
                let block = block(Framing::None);
                served.send_until_stuck(&block, STUCK).await
            });
            futures_util::future::join_all(senders).await;
            (client, held)
        };
        let (held, growth) = growth(&scene, stuck).await;
        assert!(growth < STREAMS as usize * MIB / 4 + ALLOWANCE, "{door:?}: {} KiB", growth >> 10);
        drop(held);
    }
}

/// Floods and bombs of peers that do not read, or never finish.
#[tokio::test]
async fn floods_take_little_memory() {
    let head = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    let mut entry = literals(&[("x", &"x".repeat(4000))]);
    entry[0] = 0x40;
    let bomb = [literals(&head), entry, vec![0xbe; 10_000]].concat();
    let whole = flag::END_HEADERS | flag::END_STREAM;
    let floods = [
        ("PING", Vec::new(), Frame::new(kind::PING, flag::NONE, 0, [0; 8]).bytes()),
        ("SETTINGS", Vec::new(), Frame::settings(&[]).bytes()),
        (
            "CONTINUATION",
            Frame::new(kind::HEADERS, flag::END_STREAM, 1, literals(&head)).bytes(),
            Frame::new(kind::CONTINUATION, flag::NONE, 1, literals(&[("x-flood", "x".repeat(1000))])).bytes(),
        ),
        ("HPACK", Frame::new(kind::HEADERS, whole, 1, bomb).bytes(), Vec::new()),
    ];
    for door in Door::BOTH {
        let (scene, _app) = warm(door).await;
        for (name, start, repeated) in &floods {
            let ((), growth) = growth(&scene, async {
                let mut held = Vec::new();
                for _ in 0..8 {
                    let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
                    client.wire.send(start).await;
                    if repeated.is_empty() {
                        client.outcome(1).await;
                    } else {
                        client.wire.send_until_stuck(&repeated.repeat(1000), STUCK).await;
                    }
                    held.push(client);
                }
            })
            .await;
            assert!(growth < ALLOWANCE, "{door:?} {name}: {} KiB more", growth >> 10);
        }
    }
}
