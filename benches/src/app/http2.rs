//! HTTP/2 with prior knowledge: the same answer to every request, and a gRPC message with trailers to every gRPC call.

use anyhow::Result;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use crate::wire::{ANSWER, grpc_message};

/// Answers requests until the peer has no more.
pub async fn serve(stream: TcpStream) -> Result<()> {
    let mut connection = Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_streams(1024)
        .handshake::<_, Bytes>(stream)
        .await?;
    let plain = Bytes::from(vec![b'x'; ANSWER]);
    let message = Bytes::from(grpc_message());
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        // A stream that fails is the load's to count.
        if is_grpc(&request) {
            drop(tokio::spawn(answer_call(request, respond, message.clone())));
        } else {
            answer(respond, plain.clone())?;
        }
    }
    Ok(())
}

fn is_grpc(request: &Request<RecvStream>) -> bool {
    request
        .headers()
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn answer(mut respond: SendResponse<Bytes>, body: Bytes) -> Result<()> {
    let head = Response::builder()
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
        .header("content-length", body.len())
        .body(())?;
    respond.send_response(head, false)?.send_data(body, true)?;
    Ok(())
}

async fn answer_call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    message: Bytes,
) -> Result<()> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(message, false)?;
    stream.send_trailers(HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]))?;
    Ok(())
}
