//! PEM text: certificates in and out, keys out. Reading is bounded and takes only the blocks it was asked
//! for; anything broken is an error, never skipped.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::AuthorityError;

/// Most bytes of PEM text that are looked at.
pub const MAX_PEM_BYTES: usize = 4 * 1024 * 1024;

/// One block of PEM text with lines of 64 characters, ending in a newline (RFC 7468 §2).
/// The buffers are wiped, so that it can carry a private key.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Room for all of it from the start: a growing string would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for (position, character) in body.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// Certificates as concatenated PEM blocks.
#[must_use]
pub fn encode_certificates<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    certificates.into_iter().map(|der| encode("CERTIFICATE", der).to_string()).collect()
}

/// Reads every `CERTIFICATE` block; other text is passed over.
///
/// # Errors
/// [`AuthorityError::Pem`] for text over [`MAX_PEM_BYTES`], a broken block, or none at all.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(AuthorityError::Pem {
            reason: format!("{} bytes; at most {MAX_PEM_BYTES} are read", text.len()),
        });
    }
    let found = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| AuthorityError::Pem { reason: error.to_string() })?;
    if found.is_empty() {
        return Err(AuthorityError::Pem { reason: "there is no CERTIFICATE block in it".to_owned() });
    }
    Ok(found)
}
