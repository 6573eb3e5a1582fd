//! First contact with a server whose key is known by its hash, such as by the one in a join token.

use rustls::{
    Error,
    client::danger::{ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{reject, signatures::handshake_signatures};
use crate::{certificate::CertInfo, key::key_hash, x509::X509Error};

/// Accepts the server that has the private key of one public key, whatever its certificate says: name, dates and issuer
/// play no part, so that a clock that is wrong and an authority that was rotated keep nobody out.
#[derive(Debug, Clone)]
pub struct PinnedKey {
    hash: String,
}

impl PinnedKey {
    /// Expects the key with this [`key_hash`].
    #[must_use]
    pub const fn new(hash: String) -> Self {
        Self { hash }
    }
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = CertInfo::parse(end_entity)
            .map_err(|error| reject(X509Error::Malformed { position: 0, reason: error.to_string() }))?;
        let found = key_hash(&leaf.spki_der);
        if found == self.hash {
            return Ok(ServerCertVerified::assertion());
        }
        Err(reject(X509Error::OtherKey { found, expected: self.hash.clone() }))
    }

    handshake_signatures!();
}
