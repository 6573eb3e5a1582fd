//! X.509-SVIDs: making them ([`ca`]), accepting them ([`verify`]), describing them ([`inspect`]).

pub mod ca;
pub mod dns;
mod error;
pub mod inspect;
mod subject;
#[cfg(test)]
pub(crate) mod testing;
pub mod verify;

pub use ca::{CaParams, SvidParams, X509Ca, X509Svid};
pub use error::{UntrustedRoot, X509Error};
pub use inspect::CertInfo;
pub use subject::Subject;
pub use verify::{VerifiedPeer, verify_peer};

/// SHA-256 of a certificate's DER: its fingerprint.
#[must_use]
pub fn sha256(der: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().try_into().unwrap_or_default()
}
