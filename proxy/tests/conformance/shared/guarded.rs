//! An app that speaks HTTP/2 and guards itself against clients that reset many streams, as Netty, nghttp2 and tonic do: one peer's
//! resets do not make it turn against all.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use loona_hpack::Decoder;
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};

use crate::{
    support::app,
    tools::{
        http2::{Frame, Http2, Outcome, PREFACE, code, flag, kind},
        scene::{Door, Scene},
    },
};

/// What the app bears on one connection within a moment.
const BORNE: usize = 20;

/// Answers `/well` at once and `/slow` when it is told to; never `/hung`. Counts the connections that it ended.
async fn guarded_app(ended: Arc<AtomicUsize>, slow: Arc<tokio::sync::Notify>) -> SocketAddr {
    app::tcp(move |stream| serve(stream, Arc::clone(&ended), Arc::clone(&slow))).await
}

async fn serve(stream: TcpStream, ended: Arc<AtomicUsize>, slow: Arc<tokio::sync::Notify>) {
    let (mut reader, writer) = stream.into_split();
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    let mut preface = vec![0; PREFACE.len()];
    if reader.read_exact(&mut preface).await.is_err() {
        return;
    }
    let _ = writer.lock().await.write_all(&Frame::settings(&[]).bytes()).await;
    let (mut decoder, mut resets) = (Decoder::new(), 0);
    loop {
        let mut head = [0; 9];
        if reader.read_exact(&mut head).await.is_err() {
            return;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if reader.read_exact(&mut payload).await.is_err() {
            return;
        }
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        match head[3] {
            kind::HEADERS => {
                let fields = decoder.decode(&payload).unwrap();
                let path = fields.into_iter().find(|(name, _)| name == b":path").unwrap().1;
                let (writer, slow) = (Arc::clone(&writer), Arc::clone(&slow));
                tokio::spawn(async move {
                    match &path[..] {
                        b"/well" => {}
                        b"/slow" => slow.notified().await,
                        _ => return,
                    }
                    let answer = Frame::headers(stream, true, &[(":status", "200")]);
                    let _ = writer.lock().await.write_all(&answer.bytes()).await;
                });
            }
            kind::RST_STREAM => {
                resets += 1;
                if resets > BORNE {
                    ended.fetch_add(1, Ordering::Relaxed);
                    let mut payload = 0_u32.to_be_bytes().to_vec();
                    payload.extend(code::ENHANCE_YOUR_CALM.to_be_bytes());
                    let goaway = Frame::new(kind::GOAWAY, flag::NONE, 0, payload);
                    let _ = writer.lock().await.write_all(&goaway.bytes()).await;
                    return;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn resets_of_one_peer_do_not_turn_the_app_against_all() {
    let (ended, slow) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let app = guarded_app(Arc::clone(&ended), Arc::clone(&slow)).await;
    let scene = Scene::with(Door::Inbound, app, "forward_protocol: http2").await;
    let mut victim = Http2::begin(scene.connect_with(b"h2").await).await;
    victim.send(Frame::get(1, "/slow")).await;
    let mut next = 3;
    // On connections of their own, as on one: each worker has its own connections to the app.
    for _ in 0..8 {
        let mut actor = Http2::begin(scene.connect_with(b"h2").await).await;
        let streams: Vec<u32> = (0..60).map(|number| number * 2 + 1).collect();
        let opened: Vec<_> = streams.iter().map(|stream| Frame::get(*stream, "/hung")).collect();
        actor.try_send(&opened).await.unwrap();
        // The last is answered when all before it are at the app.
        let Outcome::Response(_) = actor.get(121, "/well").await else { panic!("no answer") };
        let resets: Vec<_> = streams.iter().map(|stream| Frame::reset(*stream, code::CANCEL)).collect();
        actor.try_send(&resets).await.unwrap();
        let Outcome::Response(answer) = victim.get(next, "/well").await else { panic!("no answer") };
        assert_eq!(answer.status, 200);
        next += 2;
    }
    slow.notify_one();
    let Outcome::Response(answer) = victim.outcome(1).await else { panic!("no answer") };
    assert_eq!((answer.status, ended.load(Ordering::Relaxed)), (200, 0));
}
