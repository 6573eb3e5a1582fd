//! What a node brings when it wants to join, and what it gets.

use svidecar_authority::{CertificateDer, csr::Csr, x509::X509Svid};

use super::error::AttestError;
use crate::peer::Peer;

/// A node that wants to join.
pub struct Attempt<'a> {
    /// The proof, as the attestor takes it.
    pub payload: &'a [u8],
    /// The request for the agent's certificate.
    pub csr: &'a [u8],
    /// Who sends it.
    pub peer: &'a Peer,
}

impl Attempt<'_> {
    /// The request for the certificate, read.
    ///
    /// # Errors
    /// [`AttestError::Csr`].
    pub fn read_csr(&self) -> Result<Csr, AttestError> {
        Csr::parse(self.csr).map_err(AttestError::Csr)
    }
}

/// A node that has joined.
pub struct Attested {
    /// The agent's SVID.
    pub svid: X509Svid,
    /// Whether the agent has to attest again for the next one, in place of renewing it.
    pub can_reattest: bool,
    /// What lets it come back later.
    pub membership: Option<Vec<CertificateDer<'static>>>,
}
