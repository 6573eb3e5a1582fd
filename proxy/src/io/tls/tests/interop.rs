//! rustls' buffered connections as the other end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const SIZES: [usize; 8] = [1, 100, 16_383, 16_384, 16_385, 70_000, 262_144, 1_000_003];

/// Sends and reads at once, because a large message does not fit into the socket.
async fn exchange(stream: &mut TlsStream, sent: &[u8], expected: usize) -> Vec<u8> {
    let mut rest = sent;
    let mut got = Buffer::new();
    poll_fn(|cx| {
        while !rest.is_empty() {
            let Poll::Ready(count) = ByteStream::poll_write(stream, cx, &[IoSlice::new(rest)]) else { break };
            rest = &rest[count.unwrap()..];
        }
        let flushed = ByteStream::poll_flush(stream, cx).map(Result::unwrap);
        while got.len() < expected {
            let more = expected - got.len();
            assert!(ready!(stream.poll_fill(cx, &mut got, more)).unwrap() > 0);
        }
        if rest.is_empty() { flushed } else { Poll::Pending }
    })
    .await;
    got.filled().to_vec()
}

#[tokio::test]
async fn a_rustls_client_is_served_with_every_cipher() {
    let authority = Authority::new("demo.org");
    let server = our_server(&authority);
    for suite in SUITES {
        let (near, far) = pair().await;
        let mut config = rustls_client(&authority, suite);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let theirs = async {
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name(), near).await.unwrap();
            for size in SIZES {
                stream.write_all(&pattern(size)).await.unwrap();
                stream.flush().await.unwrap();
                let mut echo = vec![0; size];
                stream.read_exact(&mut echo).await.unwrap();
                assert!(echo == pattern(size), "{size}");
                // New keys of theirs, and a request for ours.
                stream.get_mut().1.refresh_traffic_keys().unwrap();
            }
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        };
        let ours = async {
            let Handshaken { mut stream, chain, alpn, resumed, server_name } =
                accept_one(far, &server).await.unwrap();
            assert_eq!((alpn, resumed), (Some(Alpn::Http2), false));
            assert_eq!(server_name.as_deref(), Some("orders.internal"));
            assert_eq!(chain.len(), 1);
            for size in SIZES {
                let message = read(&mut stream, size).await;
                bytes::send(&mut stream, &message).await.unwrap();
                assert!(stream.outgoing.is_empty() && stream.incoming.is_empty());
            }
            assert_eq!(bytes::fill(&mut stream, &mut Buffer::new(), 1).await.unwrap(), 0);
            bytes::shutdown(&mut stream).await.unwrap();
        };
        soon("both ends", async { tokio::join!(theirs, ours) }).await;
    }
}

#[tokio::test]
async fn a_rustls_server_is_asked_with_every_cipher() {
    let authority = Authority::new("demo.org");
    let client = our_client(&authority);
    for suite in SUITES {
        let (near, far) = pair().await;
        let mut config = rustls_server(&authority, suite);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let theirs = async {
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(far).await.unwrap();
            for size in SIZES {
                let mut message = vec![0; size];
                stream.read_exact(&mut message).await.unwrap();
                stream.get_mut().1.refresh_traffic_keys().unwrap();
                stream.write_all(&message).await.unwrap();
                stream.flush().await.unwrap();
            }
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
            stream.shutdown().await.unwrap();
        };
        let ours = async {
            let alpn = [Alpn::Svidecar, Alpn::Http2, Alpn::Http1];
            let connected = connect(Socket::accepted(near), &client, name(), &alpn).await.unwrap();
            let Handshaken { mut stream, alpn, .. } = connected;
            assert_eq!(alpn, Some(Alpn::Http1));
            for size in SIZES {
                assert!(exchange(&mut stream, &pattern(size), size).await == pattern(size), "{size}");
            }
            bytes::shutdown(&mut stream).await.unwrap();
            assert_eq!(bytes::fill(&mut stream, &mut Buffer::new(), 1).await.unwrap(), 0);
        };
        soon("both ends", async { tokio::join!(theirs, ours) }).await;
    }
}

/// Without asking, before a key has served too long.
#[tokio::test]
async fn our_keys_are_renewed_when_they_are_worn() {
    let authority = Authority::new("demo.org");
    let (near, far) = pair().await;
    let config = Arc::new(rustls_server(&authority, SUITES[0]));
    let client = our_client(&authority);
    let theirs = async {
        let mut stream = TlsAcceptor::from(config).accept(far).await.unwrap();
        let mut message = vec![0; 1_000_003];
        stream.read_exact(&mut message).await.unwrap();
        assert!(message == pattern(1_000_003));
        stream.shutdown().await.unwrap();
    };
    let ours = async {
        let mut stream = connect(Socket::accepted(near), &client, name(), &[]).await.unwrap().stream;
        for part in pattern(1_000_003).chunks(50_000) {
            stream.sealing.wear_out_after(2);
            bytes::send(&mut stream, part).await.unwrap();
            assert!(stream.sealing.sequence() <= 3, "{}", stream.sealing.sequence());
        }
        assert_eq!(bytes::fill(&mut stream, &mut Buffer::new(), 1).await.unwrap(), 0);
    };
    soon("both ends", async { tokio::join!(theirs, ours) }).await;
}

/// A server that speaks first must not wait for a client that waits for it.
#[tokio::test]
async fn the_last_flight_leaves_although_the_client_says_nothing() {
    let authority = Authority::new("demo.org");
    let (near, far) = pair().await;
    let config = Arc::new(rustls_server(&authority, SUITES[0]));
    let client = our_client(&authority);
    let theirs = async {
        let mut stream = TlsAcceptor::from(config).accept(far).await.unwrap();
        stream.write_all(b"220 welcome").await.unwrap();
        stream.flush().await.unwrap();
    };
    let ours = async {
        let mut stream = connect(Socket::accepted(near), &client, name(), &[]).await.unwrap().stream;
        assert_eq!(read(&mut stream, 11).await, b"220 welcome");
    };
    soon("both ends", async { tokio::join!(theirs, ours) }).await;
}
