//! What a certificate says, for people, for access logs and for `x-forwarded-client-cert`. Describing is
//! not trusting: nothing here checks a signature or a date.

use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_id::SpiffeId;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
};

use super::{rfc2253, sha256};
use crate::{AuthorityError, time::from_secs};

/// The readable content of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// RFC 2253; empty when the subject is.
    pub subject: String,
    /// RFC 2253.
    pub issuer: String,
    /// The ID, when there is exactly one URI name and it is a SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// All URI names as written.
    pub uri_names: Vec<String>,
    /// All DNS names as written.
    pub dns_names: Vec<String>,
    /// Serial number in decimal, as SPIRE prints it.
    pub serial: String,
    /// Serial number in lowercase hex.
    pub serial_hex: String,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity, inclusive.
    pub not_after: UnixTime,
    /// Whether basicConstraints say cA.
    pub is_ca: bool,
    /// Subject key ID in lowercase hex.
    pub subject_key_id: Option<String>,
    /// Authority key ID in lowercase hex.
    pub authority_key_id: Option<String>,
    /// Fingerprint: SHA-256 of the DER.
    pub sha256: [u8; 32],
    /// Public key as `SubjectPublicKeyInfo` DER.
    pub spki_der: Vec<u8>,
}

impl CertInfo {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`] when it is not one.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, AuthorityError> {
        let refuse = |reason: &str| AuthorityError::Certificate { reason: reason.to_owned() };
        let (rest, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|_| refuse("it is not valid DER"))?;
        if !rest.is_empty() {
            return Err(refuse("bytes follow it"));
        }
        let mut info = Self {
            subject: rfc2253(certificate.subject()),
            issuer: rfc2253(certificate.issuer()),
            spiffe_id: None,
            uri_names: Vec::new(),
            dns_names: Vec::new(),
            serial: certificate.serial.to_string(),
            serial_hex: hex::encode(certificate.serial.to_bytes_be()),
            not_before: unix(certificate.validity().not_before.timestamp()),
            not_after: unix(certificate.validity().not_after.timestamp()),
            is_ca: certificate.is_ca(),
            subject_key_id: subject_key_id(&certificate),
            authority_key_id: authority_key_id(&certificate),
            sha256: sha256(der),
            spki_der: certificate.public_key().raw.to_vec(),
        };
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::URI(uri) => info.uri_names.push((*uri).to_owned()),
                    GeneralName::DNSName(name) => info.dns_names.push((*name).to_owned()),
                    _ => {}
                }
            }
        }
        if let [uri] = info.uri_names.as_slice() {
            info.spiffe_id = SpiffeId::parse(uri).ok();
        }
        Ok(info)
    }

    /// The fingerprint in lowercase hex, as `Hash=` in `x-forwarded-client-cert` has it.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.sha256)
    }
}

/// Seconds since the epoch; a date before 1970 counts as 1970.
pub(crate) fn unix(seconds: i64) -> UnixTime {
    from_secs(u64::try_from(seconds).unwrap_or(0))
}

pub(crate) fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(hex::encode(id.0)),
        _ => None,
    })
}

pub(crate) fn authority_key_id(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| hex::encode(id.0)),
        _ => None,
    })
}
