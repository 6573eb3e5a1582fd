//! What the tests of this crate make certificates with: our own authority, and certificates that it would never
//! make.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_id::{SpiffeId, TrustDomain};

use super::{CaParams, Subject, SvidParams, X509Ca, X509Svid};
use crate::{
    bundle::{Bundle, BundleSet},
    key::{KeyType, PrivateKey},
    time::from_secs,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A moment in 2026.
pub(crate) fn now() -> UnixTime {
    from_secs(1_790_000_000)
}

pub(crate) fn td(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).unwrap()
}

pub(crate) fn ca_of(name: &str, key_type: KeyType) -> X509Ca {
    let params = CaParams { trust_domain: td(name), ttl: DAY, subject: Subject::ca_default() };
    X509Ca::self_signed(&params, PrivateKey::generate(key_type).unwrap(), now()).unwrap()
}

pub(crate) fn ca(name: &str) -> X509Ca {
    ca_of(name, KeyType::EcP256)
}

pub(crate) fn svid(ca: &X509Ca, text: &str) -> (X509Svid, PrivateKey) {
    let key = key();
    (ca.sign_svid(&SvidParams::new(id(text), key.spki_der(), HOUR), now()).unwrap(), key)
}

pub(crate) fn bundle(ca: &X509Ca) -> Bundle {
    let mut bundle = Bundle::empty(ca.trust_domain().clone());
    bundle.x509_authorities.push(ca.certificate().clone());
    bundle
}

pub(crate) fn trusting(ca: &X509Ca) -> BundleSet {
    BundleSet::of(bundle(ca))
}

/// Parameters of a good leaf, to be spoiled.
pub(crate) fn leaf_params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Elsewhere");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

/// Parameters of a good intermediate CA, to be spoiled.
pub(crate) fn intermediate_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Signs anything with the authority's key.
pub(crate) fn sign(ca: &X509Ca, params: &CertificateParams, key: &PrivateKey) -> CertificateDer<'static> {
    let issuer = Issuer::from_ca_cert_der(ca.certificate(), ca.key().clone()).unwrap();
    params.signed_by(key, &issuer).unwrap().into()
}

/// Signs anything with an intermediate.
pub(crate) fn sign_by(
    certificate: &CertificateDer<'static>,
    issuer_key: &PrivateKey,
    params: &CertificateParams,
    key: &PrivateKey,
) -> CertificateDer<'static> {
    let issuer = Issuer::from_ca_cert_der(certificate, issuer_key.clone()).unwrap();
    params.signed_by(key, &issuer).unwrap().into()
}
