//! First contact, before there is any bundle: a server that proves nothing. What it says has to be checked in another
//! way, such as by the hash of its root in a join token.

use rustls::{
    Error,
    client::danger::{ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use svidecar_id::SpiffeId;

use super::{reject, signatures::handshake_signatures};
use crate::x509::{X509Error, verify::claimed_id};

/// Accepts any server that claims the expected ID, whoever signed it. Anyone on the way can pretend to be the server,
/// so no secret may be sent to it, except when told so by `insecure_bootstrap`.
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

    handshake_signatures!();
}
