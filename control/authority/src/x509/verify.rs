//! Accepting a peer's X.509-SVID (X509-SVID §5, RFC 5280 §6).
//!
//! Signatures, dates, basic constraints, path lengths and name constraints are webpki's; the rules of SPIFFE, the
//! choice of roots and the wording of failures are ours. Two things differ from the Web's rules on purpose: no host
//! name is compared, and any extended key usage (also none) is accepted, as go-spiffe and Envoy do.

use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_id::SpiffeId;
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath,
};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, KeyUsage},
};

use super::{MAX_CHAIN, UntrustedRoot, X509Error, ca::BACKDATE};
use crate::{
    bundle::{BundleSet, TrustedDomain},
    certificate::{
        inspect::{authority_key_id, unix},
        rfc2253, sha256,
    },
    time::{between, human, plus, rfc3339},
};

#[cfg(test)]
mod tests;

/// Most characters of a presented name that go into an error.
const MAX_QUOTED: usize = 256;

/// What a handshake has proven about the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// Its ID.
    pub id: SpiffeId,
    /// Start of its SVID's validity.
    pub not_before: UnixTime,
    /// End of its SVID's validity, inclusive.
    pub not_after: UnixTime,
    /// SHA-256 of the leaf's DER.
    pub leaf_sha256: [u8; 32],
    /// Subject of the leaf by RFC 2253, as `Subject=` in `x-forwarded-client-cert` has it.
    pub subject: String,
    /// DNS names of the leaf.
    pub dns_names: Vec<String>,
    /// Serial number in decimal.
    pub serial: String,
}

impl VerifiedPeer {
    /// When it was signed, by an authority of ours.
    #[must_use]
    pub fn issued_at(&self) -> UnixTime {
        plus(self.not_before, BACKDATE)
    }
}

/// Verifies a chain, leaf first, against the bundle of the trust domain that the leaf names.
///
/// # Errors
/// The first rule that the chain breaks, with the facts of both sides.
pub fn verify_peer(
    chain: &[CertificateDer<'_>],
    bundles: &BundleSet,
    now: UnixTime,
) -> Result<VerifiedPeer, X509Error> {
    let (leaf, rest) = chain.split_first().ok_or(X509Error::NoCertificate)?;
    if chain.len() > MAX_CHAIN {
        return Err(X509Error::ChainTooLong { count: chain.len() });
    }
    let parsed = parse(leaf, 0)?;
    let peer = read_leaf(leaf, &parsed)?;
    check_leaf_usage(&parsed, &peer.id)?;
    let domain = bundles.domain(peer.id.trust_domain_str()).ok_or_else(|| X509Error::UnknownTrustDomain {
        id: peer.id.clone(),
        trust_domain: peer.id.trust_domain_str().to_owned(),
        known: bundles.names(),
    })?;
    verify_path(leaf, rest, domain, &peer, now)?;
    Ok(peer)
}

/// Reads the facts of a leaf that an earlier [`verify_peer`] has accepted, such as the one a finished
/// handshake holds. It trusts what it is given: never call it on anything else.
///
/// # Errors
/// As [`verify_peer`] for a certificate that is no SVID.
pub fn facts_of_accepted(leaf: &CertificateDer<'_>) -> Result<VerifiedPeer, X509Error> {
    read_leaf(leaf, &parse(leaf, 0)?)
}

/// The ID that a leaf claims, checked for form only (X509-SVID §2): for connections that deliberately skip
/// verification, which say so where they do it.
///
/// # Errors
/// [`X509Error::Malformed`], [`X509Error::NoUriSan`], [`X509Error::MultipleUriSans`] or [`X509Error::InvalidId`].
pub fn claimed_id(leaf: &CertificateDer<'_>) -> Result<SpiffeId, X509Error> {
    Ok(read_leaf(leaf, &parse(leaf, 0)?)?.id)
}

fn parse<'a>(der: &'a CertificateDer<'_>, position: usize) -> Result<X509Certificate<'a>, X509Error> {
    let malformed = |reason: &str| X509Error::Malformed { position, reason: reason.to_owned() };
    let (rest, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|_| malformed("it is not a DER certificate"))?;
    if !rest.is_empty() {
        return Err(malformed("bytes follow the certificate"));
    }
    Ok(certificate)
}

/// Exactly one URI name, which is a SPIFFE ID with a path.
fn read_leaf(der: &CertificateDer<'_>, leaf: &X509Certificate<'_>) -> Result<VerifiedPeer, X509Error> {
    let malformed = |reason: &str| X509Error::Malformed { position: 0, reason: reason.to_owned() };
    let subject = rfc2253(leaf.subject());
    let names = leaf
        .subject_alternative_name()
        .map_err(|_| malformed("it has more than one list of alternative names, or a broken one"))?
        .map_or(&[][..], |names| &names.value.general_names);
    let mut uris = Vec::new();
    let mut dns_names = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
            GeneralName::Invalid(..) => return Err(malformed("an alternative name in it is not valid")),
            _ => {}
        }
    }
    let uri = match uris.as_slice() {
        [] => return Err(X509Error::NoUriSan { subject: quoted(&subject) }),
        [uri] => *uri,
        _ => return Err(X509Error::MultipleUriSans { count: uris.len() }),
    };
    let id = SpiffeId::parse(uri).map_err(|error| X509Error::InvalidId { uri: quoted(uri), error })?;
    if id.path().is_empty() {
        return Err(X509Error::NoPath { id });
    }
    Ok(VerifiedPeer {
        id,
        not_before: unix(leaf.validity().not_before.timestamp()),
        not_after: unix(leaf.validity().not_after.timestamp()),
        leaf_sha256: sha256(der),
        subject,
        dns_names,
        serial: leaf.serial.to_string(),
    })
}

fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// Not a CA, signs no certificates and no CRLs, may sign handshakes.
fn check_leaf_usage(leaf: &X509Certificate<'_>, id: &SpiffeId) -> Result<(), X509Error> {
    if leaf.is_ca() {
        return Err(X509Error::LeafIsCa { id: id.clone() });
    }
    let Some(usage) = key_usage(leaf, 0)? else { return Ok(()) };
    if usage.key_cert_sign() {
        return Err(X509Error::LeafSigns { id: id.clone(), usage: "keyCertSign" });
    }
    if usage.crl_sign() {
        return Err(X509Error::LeafSigns { id: id.clone(), usage: "cRLSign" });
    }
    if !usage.digital_signature() {
        return Err(X509Error::LeafCannotSign { id: id.clone() });
    }
    Ok(())
}

fn key_usage(certificate: &X509Certificate<'_>, position: usize) -> Result<Option<KeyUsage>, X509Error> {
    certificate.key_usage().map(|usage| usage.map(|usage| KeyUsage { flags: usage.value.flags })).map_err(
        |_| X509Error::Malformed { position, reason: "its key usage is broken or given twice".to_owned() },
    )
}

/// Accepts any extended key usage, and none (go-spiffe: `ExtKeyUsageAny`).
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        for purpose in purposes {
            purpose?;
        }
        Ok(())
    }
}

fn verify_path(
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    domain: &TrustedDomain,
    peer: &VerifiedPeer,
    now: UnixTime,
) -> Result<(), X509Error> {
    let anchors = domain.anchors_at(now);
    let end_entity = EndEntityCert::try_from(leaf)
        .map_err(|error| X509Error::Malformed { position: 0, reason: error.to_string() })?;
    // webpki leaves an intermediate's key usage to its caller (RFC 5280 §6.1.4 n).
    let intermediates_may_sign = |path: &VerifiedPath<'_>| {
        for intermediate in path.intermediate_certificates() {
            let der = intermediate.der();
            let may_sign = parse(&der, 1)
                .ok()
                .and_then(|parsed| key_usage(&parsed, 1).ok())
                .is_some_and(|usage| usage.is_none_or(|usage| usage.key_cert_sign()));
            if !may_sign {
                return Err(webpki::Error::EndEntityUsedAsCa);
            }
        }
        Ok(())
    };
    let verified = end_entity.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        rest,
        now,
        AnyUsage,
        None,
        Some(&intermediates_may_sign),
    );
    match verified {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(error, leaf, rest, domain, anchors.is_empty(), peer, now)),
    }
}

/// Turns webpki's reason into ours.
fn explain(
    error: webpki::Error,
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    domain: &TrustedDomain,
    no_anchor: bool,
    peer: &VerifiedPeer,
    now: UnixTime,
) -> X509Error {
    let id = peer.id.clone();
    match error {
        webpki::Error::CertExpired { not_after, .. } => X509Error::Expired {
            what: if not_after == peer.not_after { "SVID" } else { "intermediate CA" },
            ago: human(between(not_after, now)),
            not_after: rfc3339(not_after),
            id,
        },
        webpki::Error::CertNotValidYet { not_before, .. } => X509Error::NotYetValid {
            what: if not_before == peer.not_before { "SVID" } else { "intermediate CA" },
            ahead: human(between(now, not_before)),
            not_before: rfc3339(not_before),
            id,
        },
        webpki::Error::UnknownIssuer if no_anchor => X509Error::EmptyBundle {
            id,
            trust_domain: domain.bundle().trust_domain.to_string(),
            held: domain.bundle().x509_authorities.len(),
        },
        webpki::Error::UnknownIssuer => {
            let last = rest.last().unwrap_or(leaf);
            let parsed = parse(last, rest.len()).ok();
            X509Error::UntrustedRoot(Box::new(UntrustedRoot {
                id,
                trust_domain: domain.bundle().trust_domain.to_string(),
                issuer: parsed.as_ref().map(|last| quoted(&rfc2253(last.issuer()))).unwrap_or_default(),
                issuer_key: parsed
                    .as_ref()
                    .and_then(authority_key_id)
                    .map_or_else(|| "unknown".to_owned(), |key| quoted(&key)),
                held: domain.key_ids(),
                sequence: domain.bundle().sequence,
            }))
        }
        webpki::Error::InvalidSignatureForPublicKey => X509Error::BadSignature { id },
        webpki::Error::EndEntityUsedAsCa => X509Error::InvalidChain {
            id,
            reason: "an intermediate certificate is not allowed to sign certificates".to_owned(),
        },
        other => X509Error::InvalidChain { id, reason: other.to_string() },
    }
}
