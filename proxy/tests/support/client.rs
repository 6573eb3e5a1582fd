//! Clients: peers with an SVID of their own, and plain ones.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use svidecar_authority::tls::{self, SpiffeVerifier, Versions, authorize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{authority::Authority, soon};

/// Connects to a sidecar as the workload that owns `identity`.
pub async fn mtls(
    address: SocketAddr,
    trusts: &Authority,
    identity: impl tls::IdentitySource + 'static,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    mtls_on(TcpStream::connect(address).await?, trusts, identity, alpn).await
}

/// The same on a connection that is there already.
pub async fn mtls_on(
    stream: TcpStream,
    trusts: &Authority,
    identity: impl tls::IdentitySource + 'static,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let bundles = Arc::new(trusts.bundles());
    let verifier = SpiffeVerifier::new(move || Arc::clone(&bundles), authorize::any());
    let config = tls::client_config(identity, verifier, alpn, Versions::default()).unwrap();
    let name = rustls::pki_types::ServerName::try_from("orders.internal").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A response, read to its end.
pub struct Read {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

pub type Sender1 = http1::SendRequest<Full<Bytes>>;
pub type Sender2 = http2::SendRequest<Full<Bytes>>;

/// Begins HTTP/1.1 on a stream.
pub async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender1 {
    let mut builder = http1::Builder::new();
    builder.preserve_header_case(true);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { connection.with_upgrades().await });
    sender
}

/// Begins HTTP/2 on a stream.
pub async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender2 {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).header("host", "orders").body(Full::default()).unwrap()
}

pub async fn read(response: Response<Incoming>) -> Read {
    let (parts, body) = response.into_parts();
    let collected = soon("the end of a response", body.collect()).await.unwrap();
    let trailers = collected.trailers().cloned();
    let body = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
    Read { status: parts.status, headers: parts.headers, body, trailers }
}

/// One request on a connection of HTTP/1.1.
pub async fn ask(sender: &mut Sender1, request: Request<Full<Bytes>>) -> Read {
    soon("a connection that is ready", sender.ready()).await.unwrap();
    let response = soon("a response", sender.send_request(request)).await.unwrap();
    read(response).await
}

/// One GET in plain text on a connection of its own.
pub async fn plain_get(address: SocketAddr, path: &str) -> Read {
    let mut sender = http1(TcpStream::connect(address).await.unwrap()).await;
    let request =
        Request::builder().uri(path).header("host", address.to_string()).body(Full::default()).unwrap();
    ask(&mut sender, request).await
}
