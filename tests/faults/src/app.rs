//! The app: answers each request with 200 and the length of its body, and echoes what comes over TCP.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Serves until it is killed.
///
/// # Errors
/// When an address cannot be bound.
pub async fn serve(http: SocketAddr, echo: SocketAddr) -> Result<()> {
    let bind = async |address| {
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
    };
    let (http, echo) = (bind(http).await?, bind(echo).await?);
    println!("app is ready");
    loop {
        tokio::select! {
            accepted = http.accept() => {
                let connection = http1::Builder::new().serve_connection(TokioIo::new(accepted?.0), service_fn(answer));
                tokio::spawn(connection);
            }
            accepted = echo.accept() => {
                tokio::spawn(repeat(accepted?.0));
            }
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // Whoever sent less than it said sees no answer.
    let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    Ok(Response::new(Full::from(format!("{length}\n"))))
}

async fn repeat(mut stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let (mut reads, mut writes) = stream.split();
    // A client that goes away is its own business.
    tokio::io::copy(&mut reads, &mut writes).await.ok();
}
