//! A gRPC client on tonic, without generated code: every message is a `google.protobuf.StringValue`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

type Codec = ProstCodec<String, String>;

/// Large enough for the largest message.
const LIMIT: usize = 16 << 20;

/// Makes every kind of call.
pub async fn call(address: SocketAddr) -> Result<()> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    metadata(&channel).await?;
    let large = "0123456789".repeat(800_000);
    ensure!(unary(&channel, Request::new(large.clone())).await?.into_inner() == large, "a large message");

    let failure = unary(&channel, Request::new("fail".to_owned())).await.err().context("no failure")?;
    ensure!(failure.code() == Code::FailedPrecondition, "{failure:?}");
    ensure!(failure.message() == "it does: 100 % ü", "{failure:?}");
    ensure!(failure.metadata().get("x-trailer").context("no trailer")? == "with the failure", "{failure:?}");

    let mut wait = Request::new("wait".to_owned());
    wait.set_timeout(Duration::from_millis(300));
    let late = unary(&channel, wait).await.err().context("no deadline")?;
    // tonic's own clock says Cancelled (hyperium/tonic#1131), the server's DeadlineExceeded.
    ensure!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");

    streams(&channel).await?;

    let many = (0..100).map(|number| {
        let channel = channel.clone();
        async move {
            let answer = unary(&channel, Request::new(number.to_string())).await?;
            ensure!(answer.into_inner() == number.to_string(), "another call's answer");
            Ok(())
        }
    });
    let mut running: tokio::task::JoinSet<Result<()>> = many.collect();
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

async fn metadata(channel: &Channel) -> Result<()> {
    let mut request = Request::new("hello".to_owned());
    request.metadata_mut().append("x-asked", "a".parse()?);
    request.metadata_mut().append("x-asked", "b".parse()?);
    request.metadata_mut().insert_bin("x-data-bin", MetadataValue::from_bytes(b"\x00\xff\x01"));
    let answer = unary(channel, request).await?;
    ensure!(answer.get_ref() == "hello", "{answer:?}");
    let (fields, _, _) = answer.into_parts();
    ensure!(fields.get("x-header").context("no header")? == "a,b", "{fields:?}");
    ensure!(
        fields.get_bin("x-data-bin").context("no data")?.to_bytes()?.as_ref() == b"\x00\xff\x01",
        "{fields:?}"
    );
    // tonic adds the trailers of a unary call to its metadata.
    ensure!(fields.get("x-trailer").context("no trailer")? == "behind", "{fields:?}");
    Ok(())
}

async fn streams(channel: &Channel) -> Result<()> {
    let mut down = server_stream(channel, "again").await?;
    for _ in 0..3 {
        ensure!(down.message().await?.as_deref() == Some("again"), "down");
    }
    ensure!(down.message().await?.is_none(), "down ends");

    let mut forever = server_stream(channel, "forever").await?;
    ensure!(forever.message().await?.is_some(), "forever");
    // Dropped, it is cancelled.
    drop(forever);

    let words = || tokio_stream::iter(["one", "two", "three"].map(ToOwned::to_owned));
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let answer: Response<String> =
        grpc.client_streaming(Request::new(words()), path("Up")?, Codec::default()).await?;
    ensure!(answer.get_ref() == "one two three", "{answer:?}");

    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    grpc.ready().await?;
    // The head of the answer may come with its first message only.
    sender.send("first".to_owned()).await?;
    let stream = Request::new(ReceiverStream::new(receiver));
    let mut both = grpc.streaming(stream, path("Both")?, Codec::default()).await?.into_inner();
    ensure!(both.message().await?.as_deref() == Some("first"), "both");
    let mut words = words();
    while let Some(word) = words.next().await {
        sender.send(word.clone()).await?;
        ensure!(both.message().await? == Some(word), "both");
    }
    drop(sender);
    ensure!(both.message().await?.is_none(), "both ends");
    Ok(())
}

async fn unary(channel: &Channel, request: Request<String>) -> Result<Response<String>, Status> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(LIMIT);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    grpc.unary(request, PathAndQuery::from_static("/svidecar.test.Echo/Unary"), Codec::default()).await
}

async fn server_stream(channel: &Channel, question: &str) -> Result<Streaming<String>> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let request = Request::new(question.to_owned());
    Ok(grpc.server_streaming(request, path("Down")?, Codec::default()).await?.into_inner())
}

fn path(method: &str) -> Result<PathAndQuery> {
    Ok(format!("/svidecar.test.Echo/{method}").parse()?)
}
