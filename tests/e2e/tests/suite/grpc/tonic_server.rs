//! The same service as `clients/http/grpc`, on tonic.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, BoxStream, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    events: mpsc::Receiver<&'static str>,
}

impl Server {
    pub async fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, events) = mpsc::channel(16);
        let serving = tonic::transport::Server::builder()
            .add_service(Echo { events: sender })
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Ok(Self { address, events })
    }

    /// Waits for something to happen on the server.
    pub async fn until(&mut self, event: &str) -> Result<()> {
        let wait = async {
            while self.events.recv().await.context("the server ended")? != event {}
            Ok(())
        };
        tokio::time::timeout(svidecar_stack::PATIENCE, wait).await.with_context(|| event.to_owned())?
    }
}

#[derive(Clone)]
struct Echo {
    events: mpsc::Sender<&'static str>,
}

/// Says that a call was cancelled unless it came to its end.
struct Guard {
    events: mpsc::Sender<&'static str>,
    event: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.events.try_send(self.event);
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "svidecar.test.Echo";
}

type Codec = ProstCodec<String, String>;

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let events = self.events.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Codec::default()).max_decoding_message_size(16 << 20);
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "Unary" => {
                    grpc.unary(service_fn(move |request| unary(events.clone(), request)), request).await
                }
                "Down" => {
                    grpc.server_streaming(service_fn(move |request| down(events.clone(), request)), request)
                        .await
                }
                "Up" => grpc.client_streaming(service_fn(up), request).await,
                "Both" => grpc.streaming(service_fn(both), request).await,
                _ => Status::unimplemented(method).into_http(),
            })
        })
    }
}

/// Answers with what was asked; the words "fail" and "wait" are special.
async fn unary(
    events: mpsc::Sender<&'static str>,
    request: Request<String>,
) -> Result<Response<String>, Status> {
    match request.get_ref().as_str() {
        "fail" => {
            let mut trailers = MetadataMap::new();
            trailers.insert("x-trailer", "with the failure".parse().unwrap());
            let status = tonic::Code::FailedPrecondition;
            return Err(Status::with_metadata(status, "it does: 100 % ü", trailers));
        }
        "wait" => {
            let _guard = Guard { events, event: "cancelled unary" };
            // Longer than any test waits.
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        _ => {}
    }
    let (fields, _, question) = request.into_parts();
    let mut answer = Response::new(question);
    let asked: Vec<_> = fields.get_all("x-asked").iter().filter_map(|value| value.to_str().ok()).collect();
    answer.metadata_mut().insert("x-header", asked.join(",").parse().unwrap());
    if let Some(data) = fields.get_bin("x-data-bin") {
        answer.metadata_mut().insert_bin("x-data-bin", data.clone());
    }
    // tonic has no trailers of its own for a call that succeeds; a client sees both in one map.
    answer.metadata_mut().insert("x-trailer", "behind".parse().unwrap());
    Ok(answer)
}

/// Sends a question back three times, or without end.
async fn down(
    events: mpsc::Sender<&'static str>,
    request: Request<String>,
) -> Result<Response<BoxStream<String>>, Status> {
    let question = request.into_inner();
    if question != "forever" {
        let answers = tokio_stream::iter(vec![question; 3]).map(Ok);
        return Ok(Response::new(Box::pin(answers)));
    }
    let guard = Guard { events, event: "cancelled down" };
    let answers = tokio_stream::iter(std::iter::repeat(question)).map(move |answer| {
        let _ = &guard;
        Ok(answer)
    });
    Ok(Response::new(Box::pin(answers)))
}

/// Joins all that comes.
async fn up(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    let parts: Vec<String> = request.into_inner().collect::<Result<_, _>>().await?;
    Ok(Response::new(parts.join(" ")))
}

/// Answers each message at once.
async fn both(request: Request<Streaming<String>>) -> Result<Response<BoxStream<String>>, Status> {
    let mut questions = request.into_inner();
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            if sender.send(question).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
}
