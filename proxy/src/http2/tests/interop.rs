use bytes::Bytes;
use h2::{client, server};
use http::{HeaderMap, Method, Request, Response};
use proptest::prelude::*;

use super::support::*;
use crate::{
    http2::{Role, Session, Settings},
    message::{BodySink as _, Fields},
};

/// An exchange in both directions.
#[derive(Clone, Debug)]
struct Exchange {
    method: Method,
    path: String,
    request: Message,
    response: Message,
    status: u16,
}

#[derive(Clone, Debug)]
struct Message {
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let value = prop_oneof!["[!-~]{0,40}", "[!-~][ -~]{0,300}[!-~]", "same"];
    prop::collection::vec(("x-[a-z0-9-]{0,12}", value), 0..12)
}

fn message() -> impl Strategy<Value = Message> {
    let body = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 1..300),
        (1..200_000_usize).prop_map(|size| (0..size).map(|at| (at * 31 % 251) as u8).collect()),
    ];
    (fields(), body, fields()).prop_map(|(fields, body, trailers)| Message { fields, body, trailers })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let method = prop_oneof![Just(Method::GET), Just(Method::POST), Just(Method::PUT), Just(Method::OPTIONS)];
    (method, "/[a-z0-9/?=&._-]{0,40}", message(), message(), 200..599_u16).prop_map(
        |(method, path, request, response, status)| {
            // No body goes with these.
            let status = if matches!(status, 204 | 205 | 304) { 200 } else { status };
            Exchange { method, path, request, response, status }
        },
    )
}

/// Fields as each name's values in their order: what HTTP promises to keep.
type Kept = Vec<(String, Vec<String>)>;

fn kept<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Kept {
    let mut kept = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (name, value) in fields {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        kept.entry(text(name)).or_default().push(text(value));
    }
    kept.into_iter().collect()
}

fn kept_of(fields: &Fields) -> Kept {
    kept(fields.iter())
}

fn kept_of_map(map: &HeaderMap) -> Kept {
    kept(map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
}

fn kept_of_pairs(pairs: &[(String, String)]) -> Kept {
    kept(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

fn to_fields(pairs: &[(String, String)]) -> Fields {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn to_map(pairs: &[(String, String)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    pairs.collect::<Vec<(http::HeaderName, http::HeaderValue)>>().into_iter().collect()
}

async fn read_all(body: &mut h2::RecvStream) -> (Vec<u8>, Kept) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend(data);
    }
    (all, body.trailers().await.unwrap().as_ref().map(kept_of_map).unwrap_or_default())
}

async fn send_all(stream: &mut h2::SendStream<Bytes>, message: &Message) {
    stream.send_data(Bytes::from(message.body.clone()), message.trailers.is_empty()).unwrap();
    if !message.trailers.is_empty() {
        stream.send_trailers(to_map(&message.trailers)).unwrap();
    }
}

/// Our client and their server.
async fn with_their_server(exchanges: Vec<Exchange>) {
    let (near, far) = pipe(16 << 10);
    let session = Session::new(Role::Client, &Settings::default());
    let driver = tokio::task::spawn_local(drive(session.clone(), near));
    let expected = exchanges.clone();
    let server = tokio::task::spawn_local(async move {
        let mut connection = server::handshake(far.0).await.unwrap();
        let mut tasks = Vec::new();
        for exchange in expected {
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            tasks.push(tokio::task::spawn_local(async move {
                assert_eq!(
                    (request.method(), request.uri().path_and_query().unwrap().as_str()),
                    (&exchange.method, exchange.path.as_str())
                );
                assert_eq!(kept_of_map(request.headers()), kept_of_pairs(&exchange.request.fields));
                let mut body = request.into_body();
                let read = read_all(&mut body).await;
                assert_eq!(read, (exchange.request.body, kept_of_pairs(&exchange.request.trailers)));
                let mut response = Response::builder().status(exchange.status).body(()).unwrap();
                *response.headers_mut() = to_map(&exchange.response.fields);
                let mut stream = respond.send_response(response, false).unwrap();
                send_all(&mut stream, &exchange.response).await;
            }));
        }
        assert!(connection.accept().await.is_none());
        for task in tasks {
            task.await.unwrap();
        }
    });
    let mut tasks = Vec::new();
    for exchange in exchanges {
        let mut head = request(exchange.method.as_str(), &exchange.path);
        head.fields = to_fields(&exchange.request.fields);
        let mut stream = session.open(&head, false).unwrap();
        tasks.push(tokio::task::spawn_local(async move {
            send(&mut stream, &exchange.request.body).await.unwrap();
            stream.end(Some(&to_fields(&exchange.request.trailers))).unwrap();
            let head = super::support::head(&mut stream).await.unwrap();
            assert_eq!(
                (head.status, kept_of(&head.fields)),
                (exchange.status, kept_of_pairs(&exchange.response.fields))
            );
            let (body, trailers) = body(&mut stream).await.unwrap();
            assert_eq!(
                (body, kept_of(&trailers)),
                (exchange.response.body, kept_of_pairs(&exchange.response.trailers))
            );
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    session.shutdown();
    driver.await.unwrap().unwrap();
    server.await.unwrap();
}

/// Their client and our server.
async fn with_their_client(exchanges: Vec<Exchange>) {
    let (near, far) = pipe(16 << 10);
    let answers = std::rc::Rc::new(exchanges.clone());
    tokio::task::spawn_local(serve(
        Session::new(Role::Server, &Settings::default()),
        far,
        move |head, mut stream| {
            let answers = std::rc::Rc::clone(&answers);
            async move {
                let exchange = &answers[(stream.id() / 2) as usize];
                assert_eq!(
                    (head.method.as_str(), head.target.as_str(), head.authority.as_str()),
                    (exchange.method.as_str(), exchange.path.as_str(), "app")
                );
                assert_eq!(kept_of(&head.fields), kept_of_pairs(&exchange.request.fields));
                let (read, trailers) = body(&mut stream).await.unwrap();
                assert_eq!(
                    (&read, kept_of(&trailers)),
                    (&exchange.request.body, kept_of_pairs(&exchange.request.trailers))
                );
                let mut head = response(exchange.status);
                head.fields = to_fields(&exchange.response.fields);
                stream.send_response_head(&head, false);
                send(&mut stream, &exchange.response.body).await.unwrap();
                stream.end(Some(&to_fields(&exchange.response.trailers))).unwrap();
            }
        },
    ));
    let (sender, connection) = client::handshake(near.0).await.unwrap();
    let driver = tokio::task::spawn_local(connection);
    let mut tasks = Vec::new();
    for exchange in exchanges {
        let mut sender = sender.clone().ready().await.unwrap();
        let mut request = Request::builder()
            .method(exchange.method.clone())
            .uri(format!("https://app{}", exchange.path))
            .body(())
            .unwrap();
        *request.headers_mut() = to_map(&exchange.request.fields);
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        tasks.push(tokio::task::spawn_local(async move {
            send_all(&mut stream, &exchange.request).await;
            let response = response.await.unwrap();
            assert_eq!(
                (response.status().as_u16(), kept_of_map(response.headers())),
                (exchange.status, kept_of_pairs(&exchange.response.fields))
            );
            let read = read_all(&mut response.into_body()).await;
            assert_eq!(read, (exchange.response.body, kept_of_pairs(&exchange.response.trailers)));
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    drop(sender);
    driver.await.unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn their_server_understands_us(exchanges in prop::collection::vec(exchange(), 1..12)) {
        run(with_their_server(exchanges));
    }

    #[test]
    fn we_understand_their_client(exchanges in prop::collection::vec(exchange(), 1..12)) {
        run(with_their_client(exchanges));
    }
}

#[test]
fn their_flow_control_and_ours_agree_on_bulk() {
    let message = |size: usize| Message {
        fields: Vec::new(),
        body: (0..size).map(|at| (at * 17 % 241) as u8).collect(),
        trailers: Vec::new(),
    };
    let exchange = Exchange {
        method: Method::POST,
        path: "/".into(),
        request: message(2_000_000),
        response: message(3_000_000),
        status: 200,
    };
    run(with_their_server(vec![exchange.clone(); 3]));
    run(with_their_client(vec![exchange; 3]));
}
