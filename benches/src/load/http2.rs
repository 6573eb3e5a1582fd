//! Callers over HTTP/2 with prior knowledge: many streams on each connection, a new one when one has its answer.

use std::cell::RefCell;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use h2::client::{Builder, SendRequest};
use http::Request;
use svidecar_process::clock;
use tokio::net::TcpStream;

use super::tally::Tally;
use crate::wire::{ANSWER, GRPC_MESSAGE, grpc_message};
use crate::workload::Workload;

/// One exchange.
pub async fn probe(target: SocketAddr) -> Result<()> {
    exchange(&mut open(target).await?, Kind::Get, &Bytes::new()).await.map(drop)
}

/// GETs until one fails.
pub async fn get(target: SocketAddr, tally: &RefCell<Tally>) -> Result<()> {
    repeat(target, tally, Kind::Get, Bytes::new()).await
}

/// Unary gRPC calls until one fails.
pub async fn call(target: SocketAddr, tally: &RefCell<Tally>) -> Result<()> {
    repeat(target, tally, Kind::Call, Bytes::from(grpc_message())).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Call,
}

async fn repeat(target: SocketAddr, tally: &RefCell<Tally>, kind: Kind, body: Bytes) -> Result<()> {
    let sender = open(target).await?;
    try_join_all((0..Workload::STREAMS).map(|_| {
        let (mut sender, body) = (sender.clone(), body.clone());
        async move {
            loop {
                let start = clock::monotonic();
                let bytes = exchange(&mut sender, kind, &body).await?;
                tally.borrow_mut().done(clock::monotonic() - start, bytes);
            }
        }
    }))
    .await
    .map(|_: Vec<()>| ())
}

async fn open(target: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(target).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(stream)
        .await?;
    // What goes wrong on the connection is an error of each of its streams.
    drop(tokio::spawn(connection));
    Ok(sender)
}

/// One request and its whole answer; returns the bytes of the answer's body.
async fn exchange(sender: &mut SendRequest<Bytes>, kind: Kind, body: &Bytes) -> Result<usize> {
    let request = Request::builder().header("user-agent", "svidecar-bench/1");
    let request = match kind {
        Kind::Get => request
            .uri("http://orders.demo.org/orders/17")
            .header("accept", "application/json")
            .header("x-request-id", "5f0c2f3a-6f0e-4c57-9c58-3f1b2f0a9d11"),
        Kind::Call => request
            .method("POST")
            .uri("http://orders.demo.org/demo.Orders/Get")
            .header("content-type", "application/grpc")
            .header("te", "trailers"),
    };
    let mut ready = sender.clone().ready().await?;
    let (answer, mut stream) = ready.send_request(request.body(())?, kind == Kind::Get)?;
    if kind == Kind::Call {
        stream.send_data(body.clone(), true)?;
    }
    let (head, mut body) = answer.await?.into_parts();
    ensure!(head.status == 200, "status {}", head.status);
    let mut received = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        received += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    let expected = if kind == Kind::Get { ANSWER } else { 5 + GRPC_MESSAGE };
    ensure!(received == expected, "a body of {received} bytes, not {expected}");
    if kind == Kind::Call {
        let trailers = body.trailers().await?.context("no trailers")?;
        ensure!(trailers.get("grpc-status").is_some_and(|status| status == "0"), "trailers {trailers:?}");
    }
    Ok(received)
}
