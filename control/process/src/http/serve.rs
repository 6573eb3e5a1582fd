//! The server's side.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Notify,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::reply::Reply;
use crate::{
    accept::{self, Comes},
    descriptors,
    source::Source,
    waiting::{Guest, Waiting},
};

/// The largest head.
const MAX_HEAD: usize = 16 * 1024;

/// How long a connection may live. A client that does not read its answer has no connection for longer than this and
/// [`Limits::answer`]; the others come again.
const LIFE: Duration = Duration::from_secs(600);

/// What a server spends on those who ask.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time, if the reserve of descriptors has as many. For one more, the source that has most of them
    /// loses one: the oldest that has not asked for anything yet, if there is such a one.
    pub connections: usize,
    /// How long a client may take to send a head, the first or a later one on the same connection.
    pub head: Duration,
    /// How long an answer may take, and at the end the writing of it.
    pub answer: Duration,
    /// The largest body of a request, in bytes.
    pub body: usize,
}

/// Where clients come in.
pub enum Door {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// Who is at the other end, as far as the transport tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Whoever has this address.
    At(SocketAddr),
    /// A process of this user, by its effective ID.
    User(u32),
}

/// A connection that was accepted.
struct Accepted {
    stream: Box<dyn Stream>,
    ends: Ends,
}

/// Both ends of a connection.
#[derive(Clone, Copy)]
struct Ends {
    local: Option<SocketAddr>,
    client: Option<Client>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A request.
pub struct Asked {
    request: Request<Incoming>,
    ends: Ends,
    max_body: usize,
}

impl Asked {
    /// What is to be done.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// Whether only something is to be read: `GET`, or its head.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(*self.method(), Method::GET | Method::HEAD)
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// What comes after the path's `?`.
    #[must_use]
    pub fn query(&self) -> &str {
        self.request.uri().query().unwrap_or_default()
    }

    /// The header.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Our address, as the client has it.
    #[must_use]
    pub const fn local(&self) -> Option<SocketAddr> {
        self.ends.local
    }

    /// Who asks; none when the system does not say.
    #[must_use]
    pub const fn client(&self) -> Option<Client> {
        self.ends.client
    }

    /// The body; none when it is larger than it may be, or does not come.
    pub async fn body(self) -> Option<Bytes> {
        let body = Limited::new(self.request.into_body(), self.max_body);
        Some(body.collect().await.ok()?.to_bytes())
    }
}

/// Serves those who come in by `door` until `shutdown`. Requests in flight are answered before it returns.
pub async fn serve<H, F>(door: impl Into<Door>, limits: Limits, handler: H, shutdown: CancellationToken)
where
    H: Fn(Asked) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let (door, handler) = (door.into(), Arc::new(handler));
    let places = Waiting::new(limits.connections.min(descriptors::table().for_operators()));
    let connections = TaskTracker::new();
    while let Some((accepted, source)) = shutdown.run_until_cancelled(next(&door)).await {
        let place = places.enter(source);
        let (handler, shutdown) = (Arc::clone(&handler), shutdown.clone());
        connections.spawn(serve_connection(accepted, place, limits, handler, shutdown));
    }
    connections.close();
    connections.wait().await;
}

/// The next who comes in, and what it is counted as.
async fn next(door: &Door) -> (Accepted, Source) {
    let listener = match door {
        Door::Tcp(listener) => {
            let (stream, address) = accept::tcp(listener, Comes::Operators).await;
            let ends = Ends { local: stream.local_addr().ok(), client: Some(Client::At(address)) };
            return (Accepted { stream: Box::new(stream), ends }, Source::from(address.ip()));
        }
        Door::Unix(listener) => listener,
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
                let ends = Ends { local: None, client: user.map(Client::User) };
                let source = user.map_or(Source::Unknown, Source::User);
                return (Accepted { stream: Box::new(stream), ends }, source);
            }
            Err(error) => accept::failed(&error).await,
        }
    }
}

async fn serve_connection<H, F>(
    Accepted { stream, ends }: Accepted,
    mut place: Guest<Source>,
    limits: Limits,
    handler: Arc<H>,
    shutdown: CancellationToken,
) where
    H: Fn(Asked) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        let answer = handler(Asked { request, ends, max_body: limits.body });
        async move { Ok::<_, Infallible>(in_time(answer, limits.answer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let (mut connection, mut life) = (std::pin::pin!(connection), std::pin::pin!(tokio::time::sleep(LIFE)));
    let mut is_silent = true;
    loop {
        // What goes wrong on such a connection is the client's to report.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = asked.notified(), if is_silent => {
                is_silent = false;
                place.spoke();
            }
            () = place.evicted() => return,
            () = shutdown.cancelled() => break,
            () = life.as_mut() => break,
        }
    }
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(limits.answer, connection).await.ok();
}

async fn in_time(answer: impl Future<Output = Reply>, limit: Duration) -> Response<Full<Bytes>> {
    let late = |_| Reply::error(StatusCode::GATEWAY_TIMEOUT, "timeout", "the answer took too long");
    tokio::time::timeout(limit, answer).await.unwrap_or_else(late).into()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        task::JoinHandle,
    };

    use super::*;

    const LIMITS: Limits =
        Limits { connections: 2, head: Duration::from_secs(10), answer: Duration::from_secs(10), body: 5 };

    struct Served {
        address: SocketAddr,
        shutdown: CancellationToken,
        server: JoinHandle<()>,
    }

    impl Served {
        async fn start(limits: Limits) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let shutdown = CancellationToken::new();
            let server = tokio::spawn(serve(listener, limits, answer, shutdown.clone()));
            Self { address, shutdown, server }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn stop(self) {
            self.shutdown.cancel();
            self.server.await.unwrap();
        }
    }

    async fn answer(asked: Asked) -> Reply {
        match (asked.method(), asked.path()) {
            (&Method::POST, "/echo") => match asked.body().await {
                Some(body) => Reply::of_type("application/octet-stream", body),
                None => Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "too long\n"),
            },
            (_, "/late") => pending().await,
            _ if !asked.is_read() => Reply::text(StatusCode::OK, "only GET\n").allowing("GET, HEAD"),
            (_, "/query") => Reply::text(StatusCode::OK, asked.query().to_owned()),
            (_, "/local") => Reply::text(StatusCode::OK, asked.local().unwrap().to_string()),
            _ => Reply::text(StatusCode::NOT_FOUND, "not here\n"),
        }
    }

    async fn ask(served: &Served, request: &str) -> String {
        let mut client = served.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// One request on a connection that stays open.
    async fn exchange(client: &mut TcpStream) {
        client.write_all(b"GET /query?end HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"end") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_with_all_that_it_says() {
        let served = Served::start(LIMITS).await;
        let answer = ask(&served, "GET /query?a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\na=b"), "{answer}");
        let answer = ask(&served, "GET /local HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with(&format!("\r\n\r\n{}", served.address)), "{answer}");
        let answer = ask(&served, "HEAD /query?a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.contains("content-length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        served.stop().await;
    }

    #[tokio::test]
    async fn a_method_that_does_not_go_is_told_which_do() {
        let served = Served::start(LIMITS).await;
        let answer = ask(&served, "PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
        served.stop().await;
    }

    #[tokio::test]
    async fn a_body_has_a_bound() {
        let served = Served::start(LIMITS).await;
        let post = |body: &str| {
            let length = body.len();
            format!(
                "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        };
        assert!(ask(&served, &post("12345")).await.ends_with("\r\n\r\n12345"));
        assert!(ask(&served, &post("123456")).await.starts_with("HTTP/1.1 413 "));
        served.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_too_long_is_given_up() {
        let served = Served::start(LIMITS).await;
        let answer = ask(&served, "GET /late HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(answer.contains("\"error\": \"timeout\""), "{answer}");
    }

    #[tokio::test]
    async fn silent_connections_keep_nobody_out() {
        let served = Served::start(LIMITS).await;
        let mut asks = served.connect().await;
        exchange(&mut asks).await;
        for _ in 0..20 {
            let mut silent = Vec::new();
            for _ in 0..3 * LIMITS.connections {
                silent.push(served.connect().await);
            }
            // Those before have made room for the last ones, and those make room for this one.
            let answer = ask(&served, "GET /query?a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            assert!(answer.ends_with("\r\n\r\na"), "{answer}");
            exchange(&mut asks).await;
            let mut first = silent.remove(0);
            assert!(matches!(first.read(&mut [0]).await, Ok(0) | Err(_)), "the oldest silent one went");
        }
        drop(asks);
        served.stop().await;
    }

    #[tokio::test]
    async fn a_drain_ends_idle_connections() {
        let served = Served::start(LIMITS).await;
        let mut idle = served.connect().await;
        exchange(&mut idle).await;
        served.stop().await;
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }
}
