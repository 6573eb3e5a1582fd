//! Bundles in their three forms: as stored, as sent, and as they verify peers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use svidecar_api::spire::api::types;
use svidecar_authority::{
    CertificateDer, UnixTime,
    bundle::{Bundle, BundleSet, JwtKey},
    key::PublicKey,
    x509::CertInfo,
};
use svidecar_id::TrustDomain;

use crate::store::{BundleRecord, JwtAuthority, X509Authority};

/// Most authorities of one kind in one bundle.
pub const MAX_AUTHORITIES: usize = 2048;

/// Most bytes of the ID of a token key, and of the key: RSA with 8192 bits has 1062.
const MAX_KEY_ID_BYTES: usize = 255;
const MAX_KEY_BYTES: usize = 2048;

/// The form that verifies peers.
pub fn to_set<'a>(bundles: impl Iterator<Item = &'a Arc<BundleRecord>>) -> BundleSet {
    bundles.map(|bundle| to_bundle(bundle)).collect()
}

/// One bundle as a value of the authority crate.
#[must_use]
pub fn to_bundle(bundle: &BundleRecord) -> Bundle {
    Bundle {
        trust_domain: bundle.trust_domain.clone(),
        // Of use to agents only.
        tainted: Vec::new(),
        x509_authorities: bundle
            .x509_authorities
            .iter()
            .map(|authority| CertificateDer::from(authority.der.clone()))
            .collect(),
        jwt_authorities: bundle
            .jwt_authorities
            .iter()
            .map(|authority| JwtKey {
                kid: authority.key_id.clone(),
                spki_der: authority.spki_der.clone(),
                expires_at: u64::try_from(authority.expires_at)
                    .ok()
                    .filter(|at| *at > 0)
                    .map(|at| UnixTime::since_unix_epoch(Duration::from_secs(at))),
            })
            .collect(),
        sequence: bundle.sequence,
        refresh_hint: u64::try_from(bundle.refresh_hint)
            .ok()
            .filter(|hint| *hint > 0)
            .map(Duration::from_secs),
    }
}

/// As sent, with the fields that the mask names; all without a mask.
#[must_use]
pub fn to_proto(bundle: &BundleRecord, mask: Option<&types::BundleMask>) -> types::Bundle {
    let all = types::BundleMask {
        x509_authorities: true,
        jwt_authorities: true,
        refresh_hint: true,
        sequence_number: true,
        // None are ever issued.
        wit_authorities: false,
    };
    let mask = mask.unwrap_or(&all);
    types::Bundle {
        trust_domain: bundle.trust_domain.to_string(),
        x509_authorities: if mask.x509_authorities {
            x509_to_proto(&bundle.x509_authorities)
        } else {
            Vec::new()
        },
        jwt_authorities: if mask.jwt_authorities {
            jwt_to_proto(&bundle.jwt_authorities)
        } else {
            Vec::new()
        },
        refresh_hint: if mask.refresh_hint { bundle.refresh_hint } else { 0 },
        sequence_number: if mask.sequence_number { bundle.sequence } else { 0 },
        wit_authorities: Vec::new(),
    }
}

fn x509_to_proto(authorities: &[X509Authority]) -> Vec<types::X509Certificate> {
    authorities
        .iter()
        .map(|authority| types::X509Certificate { asn1: authority.der.clone(), tainted: authority.tainted })
        .collect()
}

/// Token keys as sent.
#[must_use]
pub fn jwt_to_proto(authorities: &[JwtAuthority]) -> Vec<types::JwtKey> {
    authorities
        .iter()
        .map(|authority| types::JwtKey {
            public_key: authority.spki_der.clone(),
            key_id: authority.key_id.clone(),
            expires_at: authority.expires_at,
            tainted: authority.tainted,
        })
        .collect()
}

/// Why a bundle that was sent cannot be taken. The sentences begin as SPIRE's do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBundle {
    /// No bundle in the message.
    #[error("missing bundle")]
    Missing,
    /// The name of the trust domain.
    #[error("trust domain argument is not valid: {0}")]
    TrustDomain(String),
    /// A certificate that is none.
    #[error("unable to parse X.509 authority: {0}")]
    X509(String),
    /// A token key that is none, or has no ID.
    #[error("unable to parse JWT authority: {0}")]
    Jwt(String),
    /// Over the bound.
    #[error("a bundle has at most 2048 authorities of a kind; this one has {0}")]
    TooMany(usize),
    /// A hint before the epoch of hints.
    #[error("refresh hint is negative")]
    RefreshHint,
}

/// Reads a bundle that was sent.
///
/// # Errors
/// [`BadBundle`].
pub fn from_proto(bundle: Option<&types::Bundle>) -> Result<BundleRecord, BadBundle> {
    let bundle = bundle.ok_or(BadBundle::Missing)?;
    if bundle.refresh_hint < 0 {
        return Err(BadBundle::RefreshHint);
    }
    Ok(BundleRecord {
        trust_domain: TrustDomain::parse_lenient(&bundle.trust_domain)
            .map_err(|error| BadBundle::TrustDomain(error.to_string()))?,
        x509_authorities: x509_from_proto(&bundle.x509_authorities)?,
        jwt_authorities: jwt_from_proto(&bundle.jwt_authorities)?,
        refresh_hint: bundle.refresh_hint,
        sequence: bundle.sequence_number,
    })
}

/// Reads root certificates; a repeated one counts once.
///
/// # Errors
/// [`BadBundle`].
pub fn x509_from_proto(authorities: &[types::X509Certificate]) -> Result<Vec<X509Authority>, BadBundle> {
    if authorities.len() > MAX_AUTHORITIES {
        return Err(BadBundle::TooMany(authorities.len()));
    }
    let mut seen = HashSet::new();
    let mut read = Vec::with_capacity(authorities.len());
    for authority in authorities {
        CertInfo::parse(&CertificateDer::from(authority.asn1.as_slice()))
            .map_err(|error| BadBundle::X509(error.to_string()))?;
        if seen.insert(authority.asn1.as_slice()) {
            read.push(X509Authority { der: authority.asn1.clone(), tainted: authority.tainted });
        }
    }
    Ok(read)
}

/// Reads token keys; a repeated ID is an error, because only one of them could be used.
///
/// # Errors
/// [`BadBundle`].
pub fn jwt_from_proto(authorities: &[types::JwtKey]) -> Result<Vec<JwtAuthority>, BadBundle> {
    if authorities.len() > MAX_AUTHORITIES {
        return Err(BadBundle::TooMany(authorities.len()));
    }
    let mut seen = HashSet::new();
    let mut read = Vec::with_capacity(authorities.len());
    for authority in authorities {
        if authority.key_id.is_empty() {
            return Err(BadBundle::Jwt("missing key ID".to_owned()));
        }
        if authority.key_id.len() > MAX_KEY_ID_BYTES || authority.public_key.len() > MAX_KEY_BYTES {
            return Err(BadBundle::Jwt(format!(
                "a key has at most {MAX_KEY_BYTES} bytes, and its ID {MAX_KEY_ID_BYTES}"
            )));
        }
        if !seen.insert(authority.key_id.as_str()) {
            return Err(BadBundle::Jwt(format!("key ID {:?} is used twice", authority.key_id)));
        }
        PublicKey::parse(&authority.public_key).map_err(|error| BadBundle::Jwt(error.to_string()))?;
        read.push(JwtAuthority {
            key_id: authority.key_id.clone(),
            spki_der: authority.public_key.clone(),
            expires_at: authority.expires_at.max(0),
            tainted: authority.tainted,
        });
    }
    Ok(read)
}
