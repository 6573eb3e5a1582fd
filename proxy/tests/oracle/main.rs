//! The same random exchanges directly between hyper's client and hyper's server, and through two sidecars of ours: both
//! sides must see the same.

#![allow(missing_docs, dead_code, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../support/support.rs"]
mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use proptest::{prelude::*, test_runner::TestRunner};
use support::{
    agent::{Agent, Says},
    app,
    authority::Authority,
    sidecar::Sidecar,
    soon,
};
use tokio::net::TcpStream;

type Body = BoxBody<Bytes, Infallible>;
type Pairs = Vec<(String, String)>;

/// What both sides say to each other.
#[derive(Clone, Debug, Default)]
struct Exchange {
    method: String,
    target: String,
    asks: Message,
    status: u16,
    answers: Message,
}

/// Fields, and a body in pieces: of a length that is told, or in chunks with trailers.
#[derive(Clone, Debug, Default)]
struct Message {
    fields: Pairs,
    pieces: Vec<Vec<u8>>,
    chunked: bool,
    trailers: Pairs,
}

/// What one side saw of the other.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    start: String,
    fields: Pairs,
    body: Vec<u8>,
    trailers: Pairs,
    /// It came through the sidecars.
    identified: bool,
}

fn fields() -> impl Strategy<Value = Pairs> {
    proptest::collection::vec(("X-[A-Za-z]{1,8}", "([!-~]([ -~]{0,30}[!-~])?)?"), 0..6)
}

fn message() -> impl Strategy<Value = Message> {
    let size = prop_oneof![4 => 1..100_usize, 2 => 1000..5000_usize, 1 => 60_000..80_000_usize];
    let piece = (any::<u8>(), size).prop_map(|(byte, size)| vec![byte; size]);
    (fields(), proptest::collection::vec(piece, 0..5), any::<bool>(), fields()).prop_map(
        |(fields, pieces, chunked, trailers)| Message {
            fields,
            pieces,
            chunked,
            trailers: if chunked { trailers } else { Vec::new() },
        },
    )
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let method = prop_oneof!["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "X-ODD"];
    let status = prop_oneof![Just(200), Just(201), Just(204), Just(304), Just(404), Just(500), Just(599)];
    // No segment is empty: those we merge, on purpose.
    let target = "/([a-z0-9]{1,5}/){0,3}[a-z0-9]{0,5}(\\?[a-z=&%20]{0,10})?";
    (method, target, message(), status, message()).prop_map(|(method, target, asks, status, answers)| {
        Exchange { method, target, asks, status, answers }
    })
}

fn body(message: &Message) -> Body {
    if !message.chunked {
        return Full::new(Bytes::from(message.pieces.concat())).boxed();
    }
    let trailers: HeaderMap = message
        .trailers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let data = message.pieces.clone().into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece))));
    let end = (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)));
    StreamBody::new(tokio_stream::iter(data.chain(end).collect::<Vec<_>>())).boxed()
}

/// In an order that does not depend on the way, and without what a sidecar or the time adds.
fn pairs(fields: &HeaderMap) -> Pairs {
    let own = ["x-spiffe-id", "x-forwarded-client-cert", "date"];
    let mut pairs: Pairs = fields
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    pairs
}

async fn see(start: String, fields: &HeaderMap, body: Incoming) -> Seen {
    let collected = body.collect().await.expect("a whole body");
    let trailers = collected.trailers().map(pairs).unwrap_or_default();
    let identified = fields.contains_key("x-spiffe-id");
    Seen { start, fields: pairs(fields), body: collected.to_bytes().to_vec(), trailers, identified }
}

/// One exchange on a connection of its own: what the client saw.
async fn ask(address: SocketAddr, exchange: &Exchange) -> Seen {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(exchange.method.as_str()).uri(&exchange.target);
    request = request.header("host", "orders.internal").header("te", "trailers");
    for (name, value) in &exchange.asks.fields {
        request = request.header(name, value);
    }
    if !exchange.asks.trailers.is_empty() {
        let names: Vec<_> = exchange.asks.trailers.iter().map(|(name, _)| name.as_str()).collect();
        request = request.header("trailer", names.join(", "));
    }
    let request = request.body(body(&exchange.asks)).unwrap();
    let response = soon("a response", sender.send_request(request)).await.unwrap();
    let (parts, body) = response.into_parts();
    soon("the end of a response", see(parts.status.to_string(), &parts.headers, body)).await
}

#[test]
fn both_sides_see_what_they_would_see_without_us() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let script = Arc::new(Mutex::new((Exchange::default(), Seen::default())));
    let (direct, through, sidecars) = runtime.block_on(async {
        let script = Arc::clone(&script);
        let app = app::http(move |request| {
            let script = Arc::clone(&script);
            async move {
                let (parts, incoming) = request.into_parts();
                let start = format!("{} {}", parts.method, parts.uri);
                let seen = see(start, &parts.headers, incoming).await;
                let mut script = script.lock().unwrap();
                script.1 = seen;
                let exchange = &script.0;
                let mut response = Response::builder().status(exchange.status);
                for (name, value) in &exchange.answers.fields {
                    response = response.header(name, value);
                }
                if !exchange.answers.trailers.is_empty() {
                    let names: Vec<_> =
                        exchange.answers.trailers.iter().map(|(name, _)| name.as_str()).collect();
                    response = response.header("trailer", names.join(", "));
                }
                response.body(body(&exchange.answers)).unwrap()
            }
        })
        .await;
        let authority = Authority::new("demo.org");
        let orders = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
        let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
        let server = Sidecar::ready(&orders, &format!(
            "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{app}\", policy: policy.yaml}}\n"
        ))
        .await;
        let client = Sidecar::ready(&shop, &format!(
            "outbound:\n  - name: orders\n    listen: \"127.0.0.1:0\"\n    upstream: {{endpoints: [\"{}\"], server_id: [\"spiffe://demo.org/orders\"]}}\n",
            server.inbound("orders")
        ))
        .await;
        (app, client.outbound("orders"), (orders, shop, server, client))
    });
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&exchange(), |exchange| {
            script.lock().unwrap().0 = exchange.clone();
            let mut by_way = [direct, through].map(|address| {
                let answer = runtime.block_on(ask(address, &exchange));
                (script.lock().unwrap().1.clone(), answer)
            });
            let [(asked, answered), (asked_through, answered_through)] = &mut by_way;
            prop_assert!(!asked.identified && std::mem::take(&mut asked_through.identified));
            prop_assert_eq!(asked, asked_through, "what the app saw");
            prop_assert_eq!(answered, answered_through, "what the client saw");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    drop(sidecars);
}
