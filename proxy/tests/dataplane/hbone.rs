//! HBONE: connections as CONNECT streams of one HTTP/2 connection in mutual TLS, toward a server that is not ours; and how
//! many streams such a server allows.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
};
use tokio_rustls::server::TlsStream;

use crate::support::{
    agent::{Agent, Says},
    authority::Authority,
    client::{http2, read},
    server,
    sidecar::Sidecar,
    soon,
};

/// What a server was asked, and over how many connections.
#[derive(Clone, Default)]
struct Seen {
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<http::request::Parts>>>,
}

/// A server of HTTP/2 that plays each stream with `play`.
async fn serve<F>(
    authority: &Authority,
    most_streams: u32,
    seen: &Seen,
    play: impl Fn(RecvStream, SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let seen = seen.clone();
    let serve = move |stream: TlsStream<TcpStream>| {
        let (seen, play) = (seen.clone(), play.clone());
        async move {
            seen.connections.fetch_add(1, Ordering::Relaxed);
            let mut builder = h2::server::Builder::new();
            let Ok(mut connection) =
                builder.max_concurrent_streams(most_streams).handshake::<_, Bytes>(stream).await
            else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let (parts, body) = request.into_parts();
                seen.asked.lock().unwrap().push(parts);
                tokio::spawn(play(body, respond));
            }
        }
    };
    server::mtls(authority.identity("/db"), authority, &[b"h2"], serve).await
}

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// Sends back what comes, and ends when it ends.
async fn echo(mut body: RecvStream, mut respond: SendResponse<Bytes>) {
    let mut back = respond.send_response(head(200), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        back.send_data(data, false).unwrap();
    }
    back.send_data(Bytes::new(), true).unwrap();
}

/// A sidecar whose workload reaches `server` through a tunnel.
async fn tunnel_to(authority: &Authority, server: SocketAddr, more: &str) -> (Agent, Sidecar) {
    let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let listeners = format!(
        "outbound:\n  - name: db\n    listen: \"127.0.0.1:0\"\n    protocol: tcp\n    upstream: {{endpoints: [\"{server}\"], server_id: [\"spiffe://demo.org/db\"], tunnel: hbone{more}}}\n"
    );
    let client = Sidecar::ready(&shop, &listeners).await;
    (shop, client)
}

#[tokio::test]
async fn connections_share_one_in_the_wire_form_of_hbone() {
    let authority = Authority::new("demo.org");
    let seen = Seen::default();
    let server = serve(&authority, 100, &seen, echo).await;
    let (_shop, client) = tunnel_to(&authority, server, ", destination: 5432").await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(TcpStream::connect(client.outbound("db")).await.unwrap());
    }
    let talk = streams.iter_mut().enumerate().map(|(number, stream)| async move {
        let said = format!("hello from {number}");
        stream.write_all(said.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut echoed = String::new();
        stream.read_to_string(&mut echoed).await.unwrap();
        assert_eq!(echoed, said);
    });
    soon("all echoes", futures_util::future::join_all(talk)).await;
    // One for each worker at most.
    let connections = seen.connections.load(Ordering::Relaxed);
    assert!((1..=2).contains(&connections), "{connections}");
    let asked = seen.asked.lock().unwrap();
    assert_eq!(asked.len(), 10);
    for parts in &*asked {
        assert_eq!(parts.method, "CONNECT");
        // Nothing but the authority: no scheme and no path (RFC 9113 §8.5).
        assert_eq!(parts.uri.authority().unwrap(), "127.0.0.1:5432");
        assert!(parts.uri.scheme().is_none() && parts.uri.path_and_query().is_none(), "{:?}", parts.uri);
        assert!(parts.headers.is_empty(), "{:?}", parts.headers);
    }
}

/// Our workload's connection is reset, which is all that TCP can say; the log says the rest.
async fn is_refused(client: &Sidecar, code: &str, words: &[&str]) {
    let mut stream = TcpStream::connect(client.outbound("db")).await.unwrap();
    let error = soon("the end", stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    client.until_counted(code).await;
    let log = client.access_log();
    assert_eq!(log[0]["code"], code, "{log:?}");
    let detail = log[0]["detail"].as_str().unwrap();
    assert!(words.iter().all(|word| detail.contains(word)), "{detail}");
}

#[tokio::test]
async fn a_refusal_is_an_error_that_says_so() {
    let authority = Authority::new("demo.org");
    let refuse = |_, mut respond: SendResponse<Bytes>| async move {
        let response = Response::builder().status(403).header("x-svidecar-error", "denied_by_rule");
        respond.send_response(response.body(()).unwrap(), true).unwrap();
    };
    let server = serve(&authority, 100, &Seen::default(), refuse).await;
    let (_shop, client) = tunnel_to(&authority, server, ", destination: \"db.internal:5432\"").await;
    is_refused(&client, "tunnel_refused", &["db.internal:5432", "403", "denied_by_rule"]).await;
}

#[tokio::test]
async fn a_server_without_http2_is_an_error_that_says_so() {
    let authority = Authority::new("demo.org");
    let server = server::mtls(authority.identity("/db"), &authority, &[], |mut stream| async move {
        let _ = stream.read_u8().await;
    })
    .await;
    let (_shop, client) = tunnel_to(&authority, server, "").await;
    is_refused(&client, "no_common_protocol", &["`h2`", "tunnel: hbone"]).await;
}

/// More callers at once than the server allows streams, from the first moment of its connections on: it refuses what is too
/// much, and a request with a body that has left cannot be sent again.
#[tokio::test]
async fn a_server_of_few_streams_refuses_no_request() {
    const CALLERS: usize = 12;
    let authority = Authority::new("demo.org");
    let all = Arc::new(Barrier::new(CALLERS));
    // Nobody gets an answer before all have asked.
    let play = move |mut body: RecvStream, mut respond: SendResponse<Bytes>| {
        let all = Arc::clone(&all);
        async move {
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            all.wait().await;
            respond.send_response(head(200), true).unwrap();
        }
    };
    let seen = Seen::default();
    let server = serve(&authority, 3, &seen, play).await;
    let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let listeners = format!(
        "outbound:\n  - name: db\n    listen: \"127.0.0.1:0\"\n    upstream: {{endpoints: [\"{server}\"], server_id: [\"spiffe://demo.org/db\"]}}\n"
    );
    let client = Sidecar::ready(&shop, &listeners).await;
    let sender = http2(TcpStream::connect(client.outbound("db")).await.unwrap()).await;
    let calls = (0..CALLERS).map(|_| {
        let mut sender = sender.clone();
        async move {
            let request = Request::post("http://db/").body(Full::from("a body")).unwrap();
            read(sender.send_request(request).await.unwrap()).await
        }
    });
    for answer in soon("all answers", futures_util::future::join_all(calls)).await {
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.headers);
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), CALLERS.div_ceil(3));
}
