//! Handshakes that come in odd pieces, broken, or from other programs.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// What happens to the bytes of one direction on their way.
#[derive(Clone, Debug)]
struct Way {
    /// They arrive in pieces of these sizes, over and over.
    pieces: Vec<usize>,
    /// This bit of this byte arrives wrong.
    flipped: Option<(usize, u8)>,
    /// They end here.
    ends_at: Option<usize>,
}

impl Way {
    fn straight() -> Self {
        Self { pieces: vec![16_384], flipped: None, ends_at: None }
    }

    async fn carry(
        self,
        mut from: impl tokio::io::AsyncRead + Unpin,
        mut to: impl tokio::io::AsyncWrite + Unpin,
    ) {
        let mut seen = 0;
        let mut buffer = vec![0; 16_384];
        let mut pieces = self.pieces.iter().cycle();
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let bytes = &mut buffer[..count];
            if let Some((position, bit)) = self.flipped
                && (seen..seen + count).contains(&position)
            {
                bytes[position - seen] ^= 1 << bit;
            }
            let end = self.ends_at.map_or(count, |end| end.saturating_sub(seen).min(count));
            let mut rest = &bytes[..end];
            while !rest.is_empty() {
                let (piece, next) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
                if to.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
                rest = next;
            }
            seen += count;
            if end < count {
                break;
            }
        }
        let _ = to.shutdown().await;
    }
}

/// Both ends, with somebody between them. How each of them fared; a stream that came about is used once in each direction.
async fn meet(client_is_ours: bool, to_server: Way, to_client: Way) -> (bool, bool) {
    let authority = Authority::new("demo.org");
    let ((near, left), (right, far)) = (pair().await, pair().await);
    for socket in [&near, &left, &right, &far] {
        socket.set_nodelay(true).unwrap();
    }
    let (left_read, left_write) = left.into_split();
    let (right_read, right_write) = right.into_split();
    let carrying = async {
        tokio::join!(to_server.carry(left_read, right_write), to_client.carry(right_read, left_write))
    };
    let ends = async {
        if client_is_ours {
            let client = our_client(&authority);
            let acceptor = TlsAcceptor::from(Arc::new(rustls_server(&authority, SUITES[0])));
            tokio::join!(we_connect(near, &client), they_accept(far, acceptor))
        } else {
            let connector = TlsConnector::from(Arc::new(rustls_client(&authority, SUITES[0])));
            let server = our_server(&authority);
            tokio::join!(they_connect(near, connector), we_accept(far, &server))
        }
    };
    let (ends, _) = soon("both ends", async { tokio::join!(ends, carrying) }).await;
    ends
}

async fn we_connect(socket: TcpStream, client: &ResumingClient) -> bool {
    let Ok(connected) = connect(Socket::accepted(socket), client, name(), &[]).await else { return false };
    let mut stream = connected.stream;
    bytes::send(&mut stream, b"ping").await.is_ok() && ends_with(&mut stream, b"pong").await
}

async fn we_accept(socket: TcpStream, server: &Arc<ResumingServer>) -> bool {
    let Ok(accepted) = accept_one(socket, server).await else { return false };
    let mut stream = accepted.stream;
    ends_with(&mut stream, b"ping").await && bytes::send(&mut stream, b"pong").await.is_ok() && {
        bytes::shutdown(&mut stream).await.is_ok()
    }
}

async fn ends_with(stream: &mut TlsStream, expected: &[u8]) -> bool {
    let mut got = Buffer::new();
    while got.len() < expected.len() {
        if !matches!(bytes::fill(stream, &mut got, 100).await, Ok(1..)) {
            return false;
        }
    }
    assert_eq!(got.filled(), expected);
    true
}

async fn they_connect(socket: TcpStream, connector: TlsConnector) -> bool {
    let Ok(mut stream) = connector.connect(name(), socket).await else { return false };
    let mut answer = [0; 4];
    stream.write_all(b"ping").await.is_ok()
        && stream.flush().await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && answer == *b"pong"
}

async fn they_accept(socket: TcpStream, acceptor: TlsAcceptor) -> bool {
    let Ok(mut stream) = acceptor.accept(socket).await else { return false };
    let mut question = [0; 4];
    stream.read_exact(&mut question).await.is_ok()
        && stream.write_all(b"pong").await.is_ok()
        && stream.flush().await.is_ok()
        && question == *b"ping"
}

fn in_pieces() -> impl Strategy<Value = Way> {
    let pieces = proptest::collection::vec(1_usize..700, 1..6);
    pieces.prop_map(|pieces| Way { pieces, ..Way::straight() })
}

/// A handshake and the first data have about 4,000 bytes in each direction.
fn broken() -> impl Strategy<Value = Way> {
    let position = prop_oneof![0_usize..200, 0_usize..4000];
    (in_pieces(), position, 0_u8..8, any::<bool>()).prop_map(|(way, position, bit, ends)| match ends {
        true => Way { ends_at: Some(position), ..way },
        false => Way { flipped: Some((position, bit)), ..way },
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_pieces_do_not_matter(client_is_ours: bool, to_server in in_pieces(), to_client in in_pieces()) {
        prop_assert_eq!(run(meet(client_is_ours, to_server, to_client)), (true, true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever arrives broken, neither end panics, nor believes what was not said. They may wait for what will never come,
    /// until the time that handshakes have is over; it passes at once here.
    #[test]
    fn what_arrives_broken_does_no_harm(client_is_ours: bool, to_server: bool, way in broken()) {
        let (there, back) = if to_server { (way, Way::straight()) } else { (Way::straight(), way) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let _ = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), meet(client_is_ours, there, back)).await
        });
    }
}

/// RFC 8446 §5.1 lets one message come in any number of records.
#[tokio::test]
async fn a_client_hello_in_many_records_is_one() {
    let authority = Authority::new("demo.org");
    let server = our_server(&authority);
    for size in [1, 50, 700] {
        let (near, far) = pair().await;
        let config = rustls_client(&authority, SUITES[0]);
        let mut client = rustls::ClientConnection::new(Arc::new(config), name()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let (header, message) = hello.split_at(record::HEADER);
        let mut records = Vec::new();
        for part in message.chunks(size) {
            records.extend_from_slice(&header[..3]);
            records.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
            records.extend_from_slice(part);
        }
        let theirs = async {
            let mut near = near;
            near.write_all(&records).await.unwrap();
            let mut socket = near;
            let mut buffer = vec![0; 16_384];
            while client.is_handshaking() {
                let count = socket.read(&mut buffer).await.unwrap();
                let mut rest = &buffer[..count];
                while !rest.is_empty() {
                    client.read_tls(&mut rest).unwrap();
                    client.process_new_packets().unwrap();
                }
                let mut flight = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut flight).unwrap();
                }
                socket.write_all(&flight).await.unwrap();
            }
            socket
        };
        let (accepted, _socket) =
            soon("both ends", async { tokio::join!(accept_one(far, &server), theirs) }).await;
        assert_eq!(accepted.unwrap().chain.len(), 1, "{size}");
    }
}

/// A client that says more and more, and never what it wants.
#[tokio::test]
async fn a_hello_without_end_is_refused() {
    let authority = Authority::new("demo.org");
    let server = our_server(&authority);
    let (mut near, far) = pair().await;
    let theirs = async {
        // A ClientHello of 16 MiB, in records of 16 KiB.
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.resize(record::HEADER + record::MAX_CONTENT, 0);
        record[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
        let mut sent = 0_usize;
        while near.write_all(&record).await.is_ok() {
            sent += record.len();
            record[5..9].fill(0);
        }
        sent
    };
    let (accepted, _sent) =
        soon("the refusal", async { tokio::join!(accept_one(far, &server), theirs) }).await;
    let error = accepted.err().unwrap().error;
    assert!(error.to_string().contains("HandshakePayloadTooLarge"), "{error}");
}

/// What was sent behind the last flight of the handshake, in the same segment, is not lost.
#[tokio::test]
async fn data_right_behind_the_handshake_is_read() {
    let authority = Authority::new("demo.org");
    let (client, server) = (our_client(&authority), our_server(&authority));
    let (near, far) = pair().await;
    let connecting = async {
        let mut stream = connect(Socket::accepted(near), &client, name(), &[]).await.unwrap().stream;
        assert!(!stream.outgoing.is_empty(), "the last flight waits");
        bytes::send(&mut stream, &pattern(50_000)).await.unwrap();
        stream
    };
    let (mut client, accepted) =
        soon("both ends", async { tokio::join!(connecting, accept_one(far, &server)) }).await;
    let mut server = accepted.unwrap().stream;
    assert!(read(&mut server, 50_000).await == pattern(50_000));
    // The tickets leave with the first data of the server.
    assert!(!server.outgoing.is_empty());
    bytes::send(&mut server, b"ok").await.unwrap();
    assert_eq!(read(&mut client, 2).await, b"ok");
}
