use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::*;
use crate::io::Socket;

/// Both outer ends, and a relay between the inner ones.
fn joined() -> (UnixStream, UnixStream, Relay) {
    let (client, downstream) = UnixStream::pair().unwrap();
    let (upstream, server) = UnixStream::pair().unwrap();
    let relay = Relay::new(Socket::unix(downstream).into(), Socket::unix(upstream).into());
    (client, server, relay)
}

fn never(_: &mut Context<'_>, _: Option<Code>) -> Poll<()> {
    Poll::Pending
}

#[tokio::test]
async fn a_half_closed_side_still_gets_the_answer() {
    let (mut client, mut server, mut relay) = joined();
    let talk = async {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        server.write_all(b"the answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "the answer");
    };
    let (end, ()) = tokio::join!(relay.run(never), talk);
    assert!(end.is_ok(), "{end:?}");
    assert_eq!((relay.received(), relay.sent()), (8, 10));
}

#[tokio::test]
async fn bytes_that_were_read_before_go_first() {
    let (client, downstream) = UnixStream::pair().unwrap();
    let (upstream, mut server) = UnixStream::pair().unwrap();
    let mut early = Buffer::new();
    early.extend(b"early ");
    let downstream = (Socket::unix(downstream).into(), early);
    let mut relay = Relay::resume(downstream, (Socket::unix(upstream).into(), Buffer::new()));
    let talk = async {
        let mut client = client;
        client.write_all(b"late").await.unwrap();
        drop(client);
        let mut all = String::new();
        server.read_to_string(&mut all).await.unwrap();
        drop(server);
        all
    };
    let (_, all) = tokio::join!(relay.run(never), talk);
    assert_eq!(all, "early late");
}

#[tokio::test]
async fn a_slow_reader_bounds_what_is_held() {
    let (mut client, server, mut relay) = joined();
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    // Until nothing goes any more: what was taken is in the sockets or in the relay.
    loop {
        let stuck = tokio::select! {
            written = client.write(&chunk) => {
                sent += written.unwrap();
                false
            }
            () = settled(&mut relay) => true,
        };
        if stuck && client.try_write(&chunk).is_err() {
            break;
        }
    }
    assert!(relay.there.buffer.len() <= LARGEST_READ, "{} are held", relay.there.buffer.len());
    assert!(sent < 8 << 20, "{sent} were taken");
    drop(server);
}

/// Moves until nothing more can be moved now.
async fn settled(relay: &mut Relay) {
    poll_fn(|cx| {
        let _ = relay.poll(cx);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn an_end_from_outside_ends_it() {
    let (_client, _server, mut relay) = joined();
    let end = relay.run(|_, _| Poll::Ready("over")).await;
    assert!(matches!(end, Err(Broken::Over("over"))), "{end:?}");
}

#[tokio::test]
async fn nothing_is_held_while_nothing_moves() {
    let (mut client, mut server, mut relay) = joined();
    client.write_all(b"ping").await.unwrap();
    let mut ping = [0; 4];
    tokio::select! {
        _ = relay.run(never) => panic!("both sides are open"),
        read = server.read_exact(&mut ping) => assert_eq!(read.unwrap(), 4),
    }
    assert!(relay.there.buffer.is_empty() && relay.back.buffer.is_empty());
}
