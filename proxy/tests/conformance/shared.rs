//! A shared connection is many people's: what one caller gives up, however often, ends nothing of another's.

mod guarded;

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::{app, soon},
    tools::{
        http2::{Frame, Http2, Outcome, code},
        scene::{Door, Scene},
        wire::Wire,
    },
};

/// More than any connection bears of one who resets its streams.
const ABORTS: usize = 2500;

/// Callers that give up side by side.
const ABORTERS: usize = 20;

/// Sends back what comes.
async fn echo() -> std::net::SocketAddr {
    app::tcp(|mut stream: TcpStream| async move {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await
}

/// Says one thing and hears it.
async fn talk(wire: &mut Wire, word: &str) {
    wire.send(word).await;
    assert_eq!(wire.exactly("an echo", word.len()).await.unwrap(), word.as_bytes());
}

#[tokio::test]
async fn connections_that_are_aborted_end_no_other() {
    let scene = Arc::new(Scene::of_bytes(echo().await).await);
    let mut victims = Vec::new();
    for _ in 0..8 {
        let mut victim = scene.connect().await;
        talk(&mut victim, "hello").await;
        victims.push(victim);
    }
    let mut actors = tokio::task::JoinSet::new();
    for _ in 0..ABORTERS {
        let scene = Arc::clone(&scene);
        actors.spawn(async move {
            for _ in 0..ABORTS / ABORTERS {
                let mut wire = scene.connect().await;
                talk(&mut wire, "a").await;
                wire.reset();
            }
        });
    }
    while !actors.is_empty() {
        for victim in &mut victims {
            talk(victim, "still here").await;
        }
        while actors.try_join_next().transpose().unwrap().is_some() {}
    }
    for victim in &mut victims {
        talk(victim, "and now").await;
    }
    talk(&mut scene.connect().await, "and a new one").await;
}

/// Answers all but `/hung`, of which there is only the beginning of an answer.
async fn app_that_hangs() -> std::net::SocketAddr {
    app::tcp(|stream| async move {
        let mut wire = Wire::plain(stream).unhurried();
        while let Ok(request) = wire.try_request().await {
            let length = if request.head.target() == "/hung" { 10 } else { 2 };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok");
            if wire.try_send(answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_that_are_aborted_end_no_other() {
    let scene = Arc::new(Scene::at(Door::Pair, app_that_hangs().await).await);
    let mut actors = tokio::task::JoinSet::new();
    for number in 0..ABORTERS {
        let scene = Arc::clone(&scene);
        actors.spawn(async move {
            for _ in 0..ABORTS / ABORTERS {
                if number % 2 == 0 {
                    let mut wire = scene.connect().await;
                    wire.send("GET /hung HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    wire.head().await;
                    wire.reset();
                } else {
                    let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
                    client.send(Frame::get(1, "/hung")).await;
                    client.head(1).await;
                    client.send(Frame::reset(1, code::CANCEL)).await;
                }
            }
        });
    }
    let mut kept = scene.connect().await;
    let mut shared = Http2::begin(scene.connect_with(b"h2").await).await;
    let mut stream = 1;
    while !actors.is_empty() {
        for fresh in [false, true] {
            let mut new = None;
            let victim = if fresh { new.insert(scene.connect().await) } else { &mut kept };
            victim.send("POST /well HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
            assert_eq!(victim.response("POST").await.head.status(), 200);
        }
        let Outcome::Response(answer) = shared.get(stream, "/well").await else { panic!("no answer") };
        assert_eq!(answer.status, 200);
        stream += 2;
        while actors.try_join_next().transpose().unwrap().is_some() {}
    }
}

/// One that only claims to speak for many is read slowly, and ends nobody's streams but its own.
#[tokio::test]
async fn a_peer_that_poses_as_a_sidecar_is_slowed_down() {
    let scene = Scene::at(Door::Inbound, app_that_hangs().await).await;
    let mut victim = Http2::begin(scene.connect_with(b"h2").await).await;
    let mut actor = Http2::begin(scene.connect_with(b"svidecar/1").await).await;
    let mut next = 1;
    for round in 0..60 {
        let mut frames = Vec::new();
        for _ in 0..100 {
            frames.extend([Frame::get(next, "/hung"), Frame::reset(next, code::CANCEL)]);
            next += 2;
        }
        soon("frames that are taken", actor.try_send(&frames)).await.unwrap();
        let Outcome::Response(answer) = victim.get(round * 2 + 1, "/well").await else { panic!("no answer") };
        assert_eq!(answer.status, 200);
    }
    let Outcome::Response(answer) = actor.get(next, "/well").await else { panic!("no answer") };
    assert_eq!((answer.status, actor.goaway), (200, None));
}

/// A connection of bytes is one stream: what is written to it until its end arrives.
#[tokio::test]
async fn who_aborts_much_waits_and_is_served() {
    let scene = Scene::of_bytes(echo().await).await;
    for _ in 0..1200 {
        let address = scene.outbound.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"a").await.unwrap();
        assert_eq!(soon("an echo", stream.read_u8()).await.unwrap(), b'a');
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}
