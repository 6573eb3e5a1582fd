//! Random exchanges, straight between a client and an app on hyper and through our path: both ends see the same.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::net::TcpStream;

use crate::{
    support::{app, soon},
    tools::scene::{Door, Scene},
};

/// Exchanges of each version of HTTP.
const EXCHANGES: u32 = 200;

/// What one side sends: fields, then a body in parts, then trailers. A body of one part is sent with its length.
#[derive(Clone, Debug)]
struct Sent {
    fields: Vec<(String, String)>,
    parts: Vec<Vec<u8>>,
    trailers: Vec<(String, String)>,
}

/// A request and the response to it.
#[derive(Clone, Debug)]
struct Exchange {
    method: Method,
    target: String,
    request: Sent,
    status: StatusCode,
    response: Sent,
}

/// What one side saw of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    start: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof!["x-[a-z]{1,12}", Just("accept".to_owned()), Just("cache-control".to_owned())];
    let value =
        prop_oneof!["[!-~]{1,40}", "[!-~]{1,5}[ -~]{0,40}[!-~]", Just(String::new()), "[a-z]{500,2000}"];
    prop::collection::vec((name, value), 0..12)
}

/// Fields that frame are hyper's business; HTTP/1 sends no trailers that were not announced, so those are few.
fn sent() -> impl Strategy<Value = Sent> {
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (1_usize..80_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size])
    ];
    let trailers = prop::collection::vec(("x-t[a-z]{1,5}", "[!-~]{1,20}"), 0..3);
    (fields(), prop::collection::vec(part, 0..5), trailers).prop_map(|(fields, parts, trailers)| {
        // A name once, so that the order of trailers does not depend on the map that hyper keeps them in.
        let unique: HashMap<_, _> = trailers.into_iter().collect();
        let trailers = if parts.len() > 1 { unique.into_iter().collect() } else { Vec::new() };
        Sent { fields, parts, trailers }
    })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let method = prop_oneof![
        Just(Method::GET),
        Just(Method::POST),
        Just(Method::PUT),
        Just(Method::DELETE),
        Just(Method::HEAD),
        Just(Method::OPTIONS),
        Just(Method::from_bytes(b"BREW").unwrap()),
    ];
    let target = "/[a-z0-9]{1,20}(/[a-zA-Z0-9_~.-]{1,5}[a-z]){0,4}(\\?[!$-;=?-Z_a-z~]{0,30})?";
    let status = prop_oneof![
        Just(200_u16),
        Just(201),
        Just(204),
        Just(301),
        Just(304),
        Just(404),
        Just(418),
        Just(500),
        Just(599)
    ];
    (method, target, sent(), status, sent()).prop_map(
        |(method, target, mut request, status, mut response)| {
            // hyper's HTTP/1 client sends no body with these.
            if matches!(method, Method::GET | Method::HEAD) {
                request = Sent { parts: Vec::new(), trailers: Vec::new(), ..request };
            }
            // What hyper makes of a body that must not be differs from version to version.
            if method == Method::HEAD || matches!(status, 204 | 304) {
                response = Sent { parts: Vec::new(), trailers: Vec::new(), ..response };
            }
            let status = StatusCode::from_u16(status).unwrap();
            Exchange { method, target, request, status, response }
        },
    )
}

type AnyBody = BoxBody<Bytes, Infallible>;

impl Sent {
    fn put_into(&self, headers: &mut HeaderMap) -> AnyBody {
        for (name, value) in &self.fields {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        if let [only] = &self.parts[..] {
            return http_body_util::Full::new(Bytes::from(only.clone())).boxed();
        }
        if self.parts.is_empty() {
            return http_body_util::Empty::new().boxed();
        }
        let announced: Vec<_> = self.trailers.iter().map(|(name, _)| name.as_str()).collect();
        if !announced.is_empty() {
            headers.insert("trailer", announced.join(", ").parse().unwrap());
        }
        let mut frames: Vec<_> =
            self.parts.iter().map(|part| Frame::data(Bytes::from(part.clone()))).collect();
        let mut trailers = HeaderMap::new();
        for (name, value) in &self.trailers {
            trailers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        if !trailers.is_empty() {
            frames.push(Frame::trailers(trailers));
        }
        BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok))))
    }
}

/// All fields but those that belong to the hop, sorted by name; of one name, in their order.
fn plain(headers: &HeaderMap) -> Vec<(String, String)> {
    let own =
        ["host", "transfer-encoding", "x-forwarded-client-cert", "x-spiffe-id", "date", "content-length"];
    let mut plain: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .collect();
    plain.sort_by(|one, other| one.0.cmp(&other.0));
    plain
}

async fn seen(start: String, headers: &HeaderMap, body: Incoming) -> Seen {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().map(plain).unwrap_or_default();
    Seen { start, fields: plain(headers), body: collected.to_bytes().to_vec(), trailers }
}

/// An app on hyper that plays whatever exchange its slot holds, and notes what it saw.
#[derive(Clone, Default)]
struct Stage {
    next: Arc<Mutex<Option<Exchange>>>,
    saw: Arc<Mutex<Option<Seen>>>,
}

impl Stage {
    async fn open(&self) -> SocketAddr {
        let stage = self.clone();
        app::http(move |request: Request<Incoming>| {
            let stage = stage.clone();
            async move {
                let (head, body) = request.into_parts();
                let target = head.uri.path_and_query().unwrap();
                let saw = seen(format!("{} {target}", head.method), &head.headers, body).await;
                *stage.saw.lock().unwrap() = Some(saw);
                let exchange = stage.next.lock().unwrap().take().unwrap();
                let mut response = Response::new(app::text(""));
                *response.status_mut() = exchange.status;
                let body = exchange.response.put_into(response.headers_mut());
                response.map(|_| body)
            }
        })
        .await
    }

    /// Plays an exchange at `address`; what did the app see, and what the client?
    async fn play(&self, exchange: &Exchange, client: &mut Client) -> (Seen, Seen) {
        *self.next.lock().unwrap() = Some(exchange.clone());
        let mut request = Request::new(());
        *request.method_mut() = exchange.method.clone();
        let body = exchange.request.put_into(request.headers_mut());
        let answer = soon("an answer", client.send(request.map(|()| body), &exchange.target)).await;
        let (head, body) = answer.into_parts();
        let got = soon("a whole answer", seen(head.status.to_string(), &head.headers, body)).await;
        (self.saw.lock().unwrap().take().unwrap(), got)
    }
}

enum Client {
    Http1(http1::SendRequest<AnyBody>),
    Http2(http2::SendRequest<AnyBody>),
}

impl Client {
    async fn connect(address: SocketAddr, http2: bool) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            return Self::Http2(sender);
        }
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    async fn send(&mut self, mut request: Request<AnyBody>, target: &str) -> Response<Incoming> {
        match self {
            Self::Http1(sender) => {
                *request.uri_mut() = target.parse().unwrap();
                request.headers_mut().insert("host", HeaderValue::from_static("orders"));
                request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Self::Http2(sender) => {
                *request.uri_mut() = format!("http://orders{target}").parse().unwrap();
                request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
        }
    }
}

/// Plays each random exchange twice; the second time through sidecars of which the one at the app has these settings.
fn compare(http2: bool, settings: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stage = Stage::default();
    let (scene, mut direct, mut through) = runtime.block_on(async {
        let address = stage.open().await;
        let scene = Scene::with(Door::Pair, address, settings).await;
        let outbound = scene.client.as_ref().unwrap().outbound("orders");
        let direct = Client::connect(address, http2).await;
        let through = Client::connect(outbound, http2).await;
        (scene, direct, through)
    });
    let (direct, through) = (Mutex::new(&mut direct), Mutex::new(&mut through));
    let config = ProptestConfig { cases: EXCHANGES, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&exchange(), |exchange| {
        let (mut direct, mut through) = (direct.lock().unwrap(), through.lock().unwrap());
        let ((app, client), (app_through, client_through)) = runtime.block_on(async {
            (stage.play(&exchange, &mut direct).await, stage.play(&exchange, &mut through).await)
        });
        prop_assert_eq!(app, app_through, "what the app saw");
        prop_assert_eq!(client, client_through, "what the client saw");
        Ok(())
    });
    drop(scene);
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn http1_is_as_hyper_has_it() {
    compare(false, "");
}

#[test]
fn http2_is_as_hyper_has_it() {
    compare(true, "");
}

/// The app, too.
#[test]
fn http2_all_the_way_is_as_hyper_has_it() {
    compare(true, "forward_protocol: http2");
}
