//! The verifier of both sides: the peer's chain against the current bundles, then the authorizer.

use std::{fmt, sync::Arc};

use rustls::{
    DistinguishedName, Error,
    client::danger::{ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Authorizer, BundleSource, reject, signatures::handshake_signatures};
use crate::{certificate::CertInfo, x509::verify_peer};

/// Whether a server insists on a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// No certificate, no connection.
    #[default]
    Required,
    /// A client may come without one (the server's endpoint, where agents attest); one that comes with a bad one
    /// is refused.
    Optional,
}

/// Verifies peers by [`verify_peer`].
#[derive(Clone)]
pub struct SpiffeVerifier {
    bundles: Arc<dyn BundleSource>,
    authorizer: Authorizer,
    client_certificate: ClientCertificate,
    dated: bool,
}

impl SpiffeVerifier {
    /// Verifies against the bundles of `bundles`, then asks `authorizer`.
    pub fn new(bundles: impl BundleSource + 'static, authorizer: Authorizer) -> Self {
        let client_certificate = ClientCertificate::Required;
        Self { bundles: Arc::new(bundles), authorizer, client_certificate, dated: true }
    }

    /// As a server: whether a client certificate is required.
    #[must_use]
    pub const fn client_certificate(mut self, when: ClientCertificate) -> Self {
        self.client_certificate = when;
        self
    }

    /// Takes a chain that was valid once, or will be: whoever lets such a peer do something has to look at the dates,
    /// by a clock of its own.
    #[must_use]
    pub const fn undated(mut self) -> Self {
        self.dated = false;
        self
    }

    /// Verifies a chain, leaf first, outside of a handshake: that of a session that is resumed.
    ///
    /// # Errors
    /// What a handshake would fail with.
    pub fn accepts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let now = if self.dated { now } else { beginning(chain).unwrap_or(now) };
        verify_peer(chain, &self.bundles.bundles(), now)
            .and_then(|peer| (self.authorizer)(&peer))
            .map_err(reject)
    }

    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect::<Vec<_>>();
        self.accepts(&chain, now)
    }
}

/// When the leaf's validity begins: a moment at which it was valid.
fn beginning(chain: &[CertificateDer<'_>]) -> Option<UnixTime> {
    CertInfo::parse(chain.first()?).ok().map(|leaf| leaf.not_before)
}

impl fmt::Debug for SpiffeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeVerifier")
            .field("client_certificate", &self.client_certificate)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

impl ClientCertVerifier for SpiffeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_certificate == ClientCertificate::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Roots change while we run, and a client has one identity anyway.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    handshake_signatures!();
}
