//! Presents whatever identity is current at the moment of the handshake.

use std::{fmt, sync::Arc};

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::sources::IdentitySource;

pub(super) struct Current<S>(pub(super) S);

impl<S> fmt::Debug for Current<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl<S: IdentitySource> ResolvesServerCert for Current<S> {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.identity()
    }
}

impl<S: IdentitySource> ResolvesClientCert for Current<S> {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.identity()
    }

    fn has_certs(&self) -> bool {
        self.0.identity().is_some()
    }
}
