//! Apps that know nothing of TLS.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpStream};

pub type AppBody = BoxBody<Bytes, Infallible>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<AppBody>> + Send + Sync>;

pub fn text(text: impl Into<Bytes>) -> AppBody {
    Full::new(text.into()).boxed()
}

/// Serves HTTP/1 and HTTP/2 by prior knowledge with `handler`.
pub async fn http<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = Response<AppBody>> + Send + 'static,
{
    let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
    tcp(move |stream| {
        let handler = Arc::clone(&handler);
        async move {
            let service = service_fn(move |request| {
                let handler = Arc::clone(&handler);
                async move { Ok::<_, Infallible>(handler(request).await) }
            });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().preserve_header_case(true);
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// An app that answers with the head and the body of what it was asked.
pub async fn echo() -> SocketAddr {
    http(|request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let mut lines = format!("{} {}\n", parts.method, parts.uri);
        for (name, value) in &parts.headers {
            lines.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
        }
        lines.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
        Response::new(text(lines))
    })
    .await
}

/// Serves connections with `serve`.
pub async fn tcp<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}
