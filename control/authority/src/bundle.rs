//! Bundles: the authorities of a trust domain, and their documents (SPIFFE Trust Domain and Bundle §4).
//!
//! [`Bundle`] is the plain value that is stored and sent; [`BundleSet`] is what verifiers look things up in,
//! prepared once per change. X.509 authorities never validate tokens, and JWT authorities never certificates.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_id::TrustDomain;

use crate::{
    AuthorityError,
    certificate::{self, CertInfo},
    key::PublicKey,
    pem,
};

mod json;
mod jwk;
mod set;
#[cfg(test)]
mod tests;

pub use set::{BundleSet, TrustedDomain};

/// Most authorities of either kind that a bundle may have.
pub const MAX_AUTHORITIES: usize = 2048;

/// A key that signs the trust domain's JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtKey {
    /// Its name in tokens' headers.
    pub kid: String,
    /// Public key, `SubjectPublicKeyInfo` DER.
    pub spki_der: Vec<u8>,
    /// When it is no longer needed; `None` when the document does not say (JWKs have no place for it).
    pub expires_at: Option<UnixTime>,
}

/// The authorities of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Whose they are. Never taken from a document (Federation §5.1).
    pub trust_domain: TrustDomain,
    /// Root certificates.
    pub x509_authorities: Vec<CertificateDer<'static>>,
    /// Subject key IDs of those of them whose SVIDs are to be replaced. They verify as all others do.
    pub tainted: Vec<String>,
    /// Token signing keys.
    pub jwt_authorities: Vec<JwtKey>,
    /// Grows with every change (§4.1.1).
    pub sequence: u64,
    /// How soon a consumer should ask again (§4.1.2).
    pub refresh_hint: Option<Duration>,
}

impl Bundle {
    /// A bundle without any authority: nothing of the trust domain is accepted.
    #[must_use]
    pub const fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            tainted: Vec::new(),
            jwt_authorities: Vec::new(),
            sequence: 0,
            refresh_hint: None,
        }
    }

    /// The X.509 authorities as concatenated PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode_certificates(&self.x509_authorities)
    }

    /// A bundle of the certificates of a PEM text, without token keys.
    ///
    /// # Errors
    /// [`AuthorityError::Pem`], or [`AuthorityError::Certificate`] for a block that is no certificate.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, AuthorityError> {
        let mut bundle = Self::empty(trust_domain);
        for certificate in pem::certificates(text)? {
            CertInfo::parse(&certificate)?;
            bundle.x509_authorities.push(certificate);
        }
        bundle.check_size()?;
        Ok(bundle)
    }

    /// The X.509 authorities as concatenated DER (Workload API §5.1).
    #[must_use]
    pub fn x509_der(&self) -> Vec<u8> {
        self.x509_authorities.iter().flat_map(|certificate| certificate.iter().copied()).collect()
    }

    /// Replaces nothing, reads concatenated DER certificates (Workload API §5.1).
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`] at the first thing that is none.
    pub fn certificates_from_der(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        let mut rest = der;
        let mut found = Vec::new();
        while !rest.is_empty() {
            if found.len() >= MAX_AUTHORITIES {
                return Err(AuthorityError::Certificate {
                    reason: format!("over {MAX_AUTHORITIES} certificates"),
                });
            }
            let (after, _) = x509_parser::parse_x509_certificate(rest).map_err(|_| {
                AuthorityError::Certificate { reason: format!("number {} is not valid DER", found.len() + 1) }
            })?;
            let length = rest.len().saturating_sub(after.len());
            let one = rest.get(..length).unwrap_or_default();
            found.push(CertificateDer::from(one.to_vec()));
            rest = after;
        }
        Ok(found)
    }

    fn check_size(&self) -> Result<(), AuthorityError> {
        let most = self.x509_authorities.len().max(self.jwt_authorities.len());
        if most > MAX_AUTHORITIES {
            return Err(AuthorityError::Bundle {
                reason: format!("{most} authorities; at most {MAX_AUTHORITIES} are taken"),
            });
        }
        Ok(())
    }
}

/// The hash that a join token pins a server by: SHA-256 of the root's DER, lowercase hex.
#[must_use]
pub fn root_hash(root: &CertificateDer<'_>) -> String {
    hex::encode(certificate::sha256(root))
}

impl JwtKey {
    /// The public key, checked.
    ///
    /// # Errors
    /// [`AuthorityError::PublicKey`].
    pub fn public_key(&self) -> Result<PublicKey, AuthorityError> {
        PublicKey::parse(&self.spki_der)
    }
}
