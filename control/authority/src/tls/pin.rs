//! First contact, before any bundle is there: a server known by the hash of its root, or not known at all.

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use svidecar_id::SpiffeId;

use super::{
    reject,
    verifier::{algorithms, chain_of},
};
use crate::{
    bundle::{Bundle, BundleSet, root_hash},
    x509::{VerifiedPeer, X509Error, verify::claimed_id, verify_peer},
};

/// Accepts a server whose chain leads to a root with a given SHA-256 and whose ID is the expected one. The server
/// must send that root along, behind its chain.
#[derive(Debug, Clone)]
pub struct PinnedRootVerifier {
    root_sha256: String,
    server_id: SpiffeId,
}

impl PinnedRootVerifier {
    /// `root_sha256` in hex, any case, as a join token carries it.
    #[must_use]
    pub fn new(root_sha256: &str, server_id: SpiffeId) -> Self {
        Self { root_sha256: root_sha256.to_ascii_lowercase(), server_id }
    }

    /// Checks a presented chain, leaf first.
    ///
    /// # Errors
    /// [`X509Error::PinMismatch`] when the root is not among it, [`X509Error::IdNotAllowed`] for another ID, else as
    /// [`verify_peer`].
    pub fn check(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<VerifiedPeer, X509Error> {
        let hashes =
            chain.iter().skip(1).take(crate::x509::verify::MAX_CHAIN).map(root_hash).collect::<Vec<_>>();
        let root = hashes
            .iter()
            .position(|hash| *hash == self.root_sha256)
            .and_then(|position| chain.get(position + 1))
            .ok_or_else(|| X509Error::PinMismatch {
                pinned: self.root_sha256.clone(),
                presented: if hashes.is_empty() { "none".to_owned() } else { hashes.join(", ") },
            })?;
        let mut bundle = Bundle::empty(self.server_id.trust_domain());
        bundle.x509_authorities.push(root.clone().into_owned());
        let peer = verify_peer(chain, &BundleSet::of(bundle), now)?;
        expect(&peer.id, &self.server_id)?;
        Ok(peer)
    }
}

/// Accepts any server that claims the expected ID, whoever signed it: `insecure_bootstrap`. Anyone on the way can
/// pretend to be the server.
#[derive(Debug, Clone)]
pub struct InsecureVerifier {
    server_id: SpiffeId,
}

impl InsecureVerifier {
    /// Expects the ID, and nothing else.
    #[must_use]
    pub const fn new(server_id: SpiffeId) -> Self {
        Self { server_id }
    }
}

fn expect(found: &SpiffeId, expected: &SpiffeId) -> Result<(), X509Error> {
    if found == expected {
        return Ok(());
    }
    Err(X509Error::IdNotAllowed { id: found.clone(), expected: format!("`{expected}`") })
}

impl ServerCertVerifier for PinnedRootVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(&chain_of(end_entity, intermediates), now).map_err(reject)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for InsecureVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        claimed_id(end_entity).and_then(|id| expect(&id, &self.server_id)).map_err(reject)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
