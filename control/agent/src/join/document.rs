//! A trust bundle as an operator gives it: the text of a file or of an answer.

use std::path::Path;

use svidecar_authority::{bundle::Bundle, pem::MAX_PEM_BYTES};
use svidecar_config::agent::BundleFormat;
use svidecar_id::TrustDomain;

use crate::{error::AgentError, state::file::read_bounded};

/// Reads a bundle out of a file.
///
/// # Errors
/// When the file is missing or is no bundle.
pub(super) fn read_file(
    path: &Path,
    format: BundleFormat,
    trust_domain: &TrustDomain,
) -> Result<Bundle, AgentError> {
    let bytes = read_bounded(path, MAX_PEM_BYTES as u64)?;
    parse(&bytes, format, trust_domain)
        .map_err(|reason| AgentError::Bootstrap { from: path.display().to_string(), reason })
}

/// Reads a bundle, which has to have an authority.
///
/// # Errors
/// What is wrong with it, as part of a sentence.
pub(super) fn parse(
    bytes: &[u8],
    format: BundleFormat,
    trust_domain: &TrustDomain,
) -> Result<Bundle, String> {
    let bundle = match format {
        BundleFormat::Pem => Bundle::from_pem(trust_domain.clone(), bytes),
        BundleFormat::Spiffe => Bundle::from_spiffe_json(trust_domain.clone(), bytes),
    }
    .map_err(|error| error.to_string())?;
    if bundle.x509_authorities.is_empty() {
        return Err("it has no X.509 authority".into());
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_authorities_starts_no_trust() {
        let trust_domain = TrustDomain::parse("demo.org").unwrap();
        assert!(parse(br#"{"keys":[]}"#, BundleFormat::Spiffe, &trust_domain).is_err());
        assert!(parse(b"", BundleFormat::Pem, &trust_domain).is_err());
    }
}
