//! gRPC with real clients and servers, in every pairing: unary, streams both ways, metadata, deadlines, trailers-only,
//! cancellation.

mod tonic_client;
mod tonic_server;

use anyhow::{Result, ensure};
use svidecar_e2e::{Pair, Tool, need};
use svidecar_stack::Launch;

use self::tonic_server::Server;

/// What a call is that its client gave up, and the server learned of it.
const CANCELLED: [&str; 2] = ["cancelled unary", "cancelled down"];

#[tokio::test]
async fn grpc_go_calls_grpc_go() -> Result<()> {
    let Some(program) = need(Tool::GrpcGo, "grpc_go_calls_grpc_go")? else { return Ok(()) };
    let mut pair = Pair::around(&Launch::new(&program).arg("server"), "http").await?;
    let called = go_client(&program, &pair).await;
    pair.explain(called).await?;
    for cancelled in CANCELLED {
        pair.app.log.wait_for(&[cancelled]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn grpc_go_calls_tonic() -> Result<()> {
    let Some(program) = need(Tool::GrpcGo, "grpc_go_calls_tonic")? else { return Ok(()) };
    let mut server = Server::listen().await?;
    let mut pair = Pair::before(server.address, "http").await?;
    let called = go_client(&program, &pair).await;
    pair.explain(called).await?;
    for cancelled in CANCELLED {
        server.until(cancelled).await?;
    }
    Ok(())
}

#[tokio::test]
async fn tonic_calls_grpc_go() -> Result<()> {
    let Some(program) = need(Tool::GrpcGo, "tonic_calls_grpc_go")? else { return Ok(()) };
    let mut pair = Pair::around(&Launch::new(&program).arg("server"), "http").await?;
    let called = tonic_client::call(pair.client.outbound()?).await;
    pair.explain(called).await?;
    for cancelled in CANCELLED {
        pair.app.log.wait_for(&[cancelled]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn tonic_calls_tonic() -> Result<()> {
    let mut server = Server::listen().await?;
    let mut pair = Pair::before(server.address, "http").await?;
    let called = tonic_client::call(pair.client.outbound()?).await;
    pair.explain(called).await?;
    for cancelled in CANCELLED {
        server.until(cancelled).await?;
    }
    Ok(())
}

async fn go_client(program: &std::path::Path, pair: &Pair<impl Sized>) -> Result<()> {
    let client = Launch::new(program).arg("client").arg(pair.client.outbound()?.to_string());
    let said = client.text().await?;
    ensure!(said.contains("all is well"), "{said}");
    Ok(())
}
