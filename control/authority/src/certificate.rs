//! What stands in certificates and in requests for them: subjects, names, fingerprints. Writing and describing
//! only: whom to trust and what to sign is decided above, in [`crate::x509`].

use rcgen::string::Ia5String;

use crate::AuthorityError;

pub mod dns;
pub mod inspect;
mod subject;

pub use inspect::CertInfo;
pub use subject::Subject;
pub(crate) use subject::{dn_value, rfc2253};

/// SHA-256: of a certificate's DER its fingerprint, and of anything else that is told apart by one.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or_default()
}

/// Text for an alternative name.
pub(crate) fn ia5(text: &str, field: &'static str) -> Result<Ia5String, AuthorityError> {
    Ia5String::try_from(text).map_err(|_| AuthorityError::Field { field, value: text.to_owned() })
}
