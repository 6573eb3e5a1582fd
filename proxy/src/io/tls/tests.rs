//! Both ends of the record layer against rustls' own and against each other, over real sockets.

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/authority.rs"]
#[allow(dead_code)]
pub mod authority;
mod handshakes;
mod interop;
mod misbehaviour;
mod resumption;

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use rustls::{ClientConfig, ContentType, ServerConfig, pki_types::ServerName, sign::SingleCertAndKey};
use svidecar_authority::tls::{
    self, Identity, IdentitySource, ResumingClient, ResumingServer, SpiffeVerifier, authorize,
};
use tokio::net::{TcpListener, TcpStream};

use self::authority::Authority;
use super::{
    record::Keys,
    stream::{MOST_WAITING, Reading},
    *,
};
use crate::io::{self as bytes, Buffer, ByteStream, Socket};

/// Real time, only so that a test that hangs says so.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited for {what}"),
    }
}

/// Two ends of one TCP connection.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (connected, accepted) = tokio::join!(connecting, listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

pub fn verifier(trusts: &Authority) -> SpiffeVerifier {
    let bundles = Arc::new(trusts.bundles());
    SpiffeVerifier::new(move || Arc::clone(&bundles), authorize::any())
}

pub fn source(identity: Identity) -> Arc<dyn IdentitySource> {
    Arc::new(identity)
}

pub fn our_server(authority: &Authority) -> Arc<ResumingServer> {
    let identity = source(authority.identity("/orders"));
    let alpn = [Alpn::Svidecar.name(), Alpn::Http2.name(), Alpn::Http1.name()];
    Arc::new(ResumingServer::new(identity, verifier(authority), &alpn).unwrap())
}

pub fn our_client(authority: &Authority) -> ResumingClient {
    ResumingClient::new(source(authority.identity("/shop")), verifier(authority)).unwrap()
}

pub fn name() -> ServerName<'static> {
    ServerName::try_from("orders.internal").unwrap()
}

async fn accept_one(socket: TcpStream, server: &Arc<ResumingServer>) -> Result<Handshaken, Failed> {
    accept(Socket::accepted(socket), Buffer::new(), |_| Arc::clone(server)).await
}

/// Both ends are ours.
async fn ours(client: &ResumingClient, server: &Arc<ResumingServer>) -> (TlsStream, TlsStream) {
    let (near, far) = pair().await;
    let connecting = async {
        let mut connected = connect(Socket::accepted(near), client, name(), &[Alpn::Svidecar]).await.unwrap();
        // The last flight would wait for a first request.
        bytes::send(&mut connected.stream, b"").await.unwrap();
        connected.stream
    };
    let (client, server) = tokio::join!(connecting, accept_one(far, server));
    (client, server.unwrap().stream)
}

/// Reads exactly `count` bytes.
async fn read(stream: &mut TlsStream, count: usize) -> Vec<u8> {
    let mut read = Buffer::new();
    while read.len() < count {
        let more = count - read.len();
        assert!(soon("bytes", bytes::fill(stream, &mut read, more)).await.unwrap() > 0, "the end");
    }
    assert_eq!(read.len(), count);
    read.filled().to_vec()
}

/// Bytes in which a lost or moved one shows.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 251).to_le_bytes()[0]).collect()
}

/// rustls as the other end, with one cipher suite alone.
fn provider_of(suite: rustls::CipherSuite) -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = (*tls::provider()).clone();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    Arc::new(provider)
}

pub fn rustls_client(authority: &Authority, suite: rustls::CipherSuite) -> ClientConfig {
    let key = authority.identity("/shop").certified_key();
    ClientConfig::builder_with_provider(provider_of(suite))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier(authority)))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
}

pub fn rustls_server(authority: &Authority, suite: rustls::CipherSuite) -> ServerConfig {
    let key = authority.identity("/orders").certified_key();
    ServerConfig::builder_with_provider(provider_of(suite))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(verifier(authority)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
}

pub const SUITES: [rustls::CipherSuite; 3] = [
    rustls::CipherSuite::TLS13_AES_128_GCM_SHA256,
    rustls::CipherSuite::TLS13_AES_256_GCM_SHA384,
    rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];
