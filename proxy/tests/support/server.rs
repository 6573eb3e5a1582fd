//! Servers with an SVID of their own that speak what a test wants.

use std::{net::SocketAddr, sync::Arc};

use svidecar_authority::tls::{self, SpiffeVerifier, Versions, authorize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{app, authority::Authority};

/// Serves each connection of mutual TLS with `serve`. Whoever does not agree to its ALPN gets none.
pub async fn mtls<F>(
    identity: tls::Identity,
    trusts: &Authority,
    alpn: &[&[u8]],
    serve: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let bundles = Arc::new(trusts.bundles());
    let verifier = SpiffeVerifier::new(move || Arc::clone(&bundles), authorize::any());
    let config = tls::server_config(identity, verifier, alpn, Versions::default()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let serve = Arc::new(serve);
    app::tcp(move |stream| {
        let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}
