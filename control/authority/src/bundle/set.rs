//! The bundles that are trusted at one moment, prepared for verification.

use std::{collections::BTreeMap, sync::Arc};

use rustls_pki_types::{Der, TrustAnchor, UnixTime};
use svidecar_id::TrustDomain;
use x509_parser::certificate::X509Certificate;

use super::Bundle;
use crate::{
    certificate::inspect::{subject_key_id, unix},
    key::PublicKey,
};

/// One root in the form that path validation takes.
struct Anchor {
    anchor: TrustAnchor<'static>,
    not_before: UnixTime,
    not_after: UnixTime,
    key_id: String,
}

/// A bundle with its authorities prepared. An authority that cannot be used is left out.
pub struct TrustedDomain {
    bundle: Arc<Bundle>,
    anchors: Vec<Anchor>,
    jwt_keys: Vec<(String, PublicKey)>,
}

impl TrustedDomain {
    fn new(bundle: Arc<Bundle>) -> Self {
        let anchors = bundle.x509_authorities.iter().filter_map(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
            let anchor = webpki::anchor_from_trusted_cert(der).ok()?.to_owned();
            Some(Anchor {
                anchor,
                not_before: unix(certificate.validity().not_before.timestamp()),
                not_after: unix(certificate.validity().not_after.timestamp()),
                key_id: key_id(&certificate),
            })
        });
        let jwt_keys =
            bundle.jwt_authorities.iter().filter_map(|key| Some((key.kid.clone(), key.public_key().ok()?)));
        Self { anchors: anchors.collect(), jwt_keys: jwt_keys.collect(), bundle: Arc::clone(&bundle) }
    }

    /// The bundle as it was given.
    #[must_use]
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The roots whose own dates include `now`: webpki does not look at those (RFC 5280 §6.1.1 leaves it to the
    /// caller), Go and OpenSSL do.
    pub(crate) fn anchors_at(&self, now: UnixTime) -> Vec<TrustAnchor<'_>> {
        self.anchors
            .iter()
            .filter(|anchor| anchor.not_before <= now && now <= anchor.not_after)
            .map(|Anchor { anchor, .. }| TrustAnchor {
                subject: Der::from_slice(&anchor.subject),
                subject_public_key_info: Der::from_slice(&anchor.subject_public_key_info),
                name_constraints: anchor.name_constraints.as_deref().map(Der::from_slice),
            })
            .collect()
    }

    /// Subject key IDs of the roots, for error texts.
    pub(crate) fn key_ids(&self) -> String {
        self.anchors.iter().take(8).map(|anchor| anchor.key_id.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The token signing key of that name.
    pub(crate) fn jwt_key(&self, kid: &str) -> Option<&PublicKey> {
        self.jwt_keys.iter().find(|(name, _)| name == kid).map(|(_, key)| key)
    }

    /// Names of the token signing keys, for error texts.
    pub(crate) fn jwt_key_names(&self) -> Vec<&str> {
        self.jwt_keys.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn key_id(certificate: &X509Certificate<'_>) -> String {
    subject_key_id(certificate).unwrap_or_else(|| "without key id".to_owned())
}

/// Bundles by trust domain: our own and the federated ones. Immutable once shared; a change makes a new set.
#[derive(Default)]
pub struct BundleSet {
    domains: BTreeMap<Box<str>, Arc<TrustedDomain>>,
}

impl BundleSet {
    /// No bundles: nobody is trusted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of one.
    #[must_use]
    pub fn of(bundle: Bundle) -> Self {
        [bundle].into_iter().collect()
    }

    /// Adds a bundle, or replaces the one of its trust domain.
    pub fn insert(&mut self, bundle: impl Into<Arc<Bundle>>) {
        let bundle = bundle.into();
        self.domains.insert(bundle.trust_domain.as_str().into(), Arc::new(TrustedDomain::new(bundle)));
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.domain(trust_domain.as_str()).map(TrustedDomain::bundle)
    }

    /// All bundles, ordered by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.domains.values().map(|domain| domain.bundle())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.domains.len()
    }

    pub(crate) fn domain(&self, name: &str) -> Option<&TrustedDomain> {
        self.domains.get(name).map(AsRef::as_ref)
    }

    /// The trust domains, for error texts.
    pub(crate) fn names(&self) -> String {
        match self.domains.len() {
            0 => "none".to_owned(),
            _ => self.domains.keys().take(16).map(AsRef::as_ref).collect::<Vec<&str>>().join(", "),
        }
    }
}

impl FromIterator<Bundle> for BundleSet {
    fn from_iter<I: IntoIterator<Item = Bundle>>(bundles: I) -> Self {
        let mut set = Self::new();
        for bundle in bundles {
            set.insert(bundle);
        }
        set
    }
}

impl FromIterator<Arc<Bundle>> for BundleSet {
    fn from_iter<I: IntoIterator<Item = Arc<Bundle>>>(bundles: I) -> Self {
        let mut set = Self::new();
        for bundle in bundles {
            set.insert(bundle);
        }
        set
    }
}
