//! Upstreams of several endpoints: which one has its turn, and what becomes of one that fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::support::{
    agent::{Agent, Says},
    authority::Authority,
    client::{ask, get, http1},
    server,
    sidecar::Sidecar,
};

/// A server of HTTP/1.1 that answers each request with its name, and counts its connections.
async fn named(authority: &Authority, name: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&connections);
    let serve = move |mut stream: TlsStream<TcpStream>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    };
    let identity = authority.identity("/orders");
    (server::mtls(identity, authority, &[b"http/1.1"], serve).await, connections)
}

/// A sidecar whose workload reaches these endpoints.
async fn outbound(authority: &Authority, endpoints: &[SocketAddr]) -> (Agent, Sidecar) {
    let shop = Agent::start(Says::Gives(authority.response("/shop", &[]))).await;
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    let listeners = format!(
        "outbound:\n  - name: orders\n    listen: \"127.0.0.1:0\"\n    upstream: {{endpoints: {endpoints:?}, server_id: [\"spiffe://demo.org/orders\"]}}\n"
    );
    let client = Sidecar::ready(&shop, &listeners).await;
    (shop, client)
}

#[tokio::test]
async fn endpoints_take_turns_and_each_uses_its_connection_again() {
    let authority = Authority::new("demo.org");
    let (first, of_first) = named(&authority, "first").await;
    let (second, of_second) = named(&authority, "second").await;
    let (_shop, client) = outbound(&authority, &[first, second]).await;
    let mut sender = http1(TcpStream::connect(client.outbound("orders")).await.unwrap()).await;
    for _ in 0..3 {
        for name in ["first", "second"] {
            assert_eq!(ask(&mut sender, get("/")).await.body, name);
        }
    }
    assert_eq!((of_first.load(Ordering::Relaxed), of_second.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn an_endpoint_that_refuses_costs_no_request() {
    let authority = Authority::new("demo.org");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = free.local_addr().unwrap();
    drop(free);
    let (works, connections) = named(&authority, "works").await;
    let (_shop, client) = outbound(&authority, &[refuses, works]).await;
    let mut sender = http1(TcpStream::connect(client.outbound("orders")).await.unwrap()).await;
    for _ in 0..4 {
        let answer = ask(&mut sender, get("/")).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "works"));
    }
    assert!(connections.load(Ordering::Relaxed) >= 1);
}
