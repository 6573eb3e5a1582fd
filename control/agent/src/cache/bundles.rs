//! The trust bundles, in the forms that verifiers and workloads ask for.
//!
//! Owns the conversion from SPIRE's wire form and the rendering, done once per change and shared.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use svidecar_api::spire::api::types;
use svidecar_authority::{
    CertificateDer,
    bundle::{Bundle, BundleSet, JwtKey},
    time,
    x509::CertInfo,
};
use svidecar_id::TrustDomain;

/// All bundles that the agent has, its own and those of federated trust domains.
#[derive(Default)]
pub struct Bundles {
    held: BTreeMap<TrustDomain, Held>,
    set: Arc<BundleSet>,
}

struct Held {
    bundle: Arc<Bundle>,
    x509_der: Vec<u8>,
    jwks: Vec<u8>,
}

impl Bundles {
    /// Renders bundles, one per trust domain.
    #[must_use]
    pub fn new(bundles: impl IntoIterator<Item = Arc<Bundle>>) -> Self {
        let mut set = BundleSet::new();
        let mut held = BTreeMap::new();
        for bundle in bundles {
            set.insert(Arc::clone(&bundle));
            held.insert(bundle.trust_domain.clone(), Held::of(bundle));
        }
        Self { held, set: Arc::new(set) }
    }

    /// As a verifier wants them.
    #[must_use]
    pub fn set(&self) -> &Arc<BundleSet> {
        &self.set
    }

    /// One bundle; none if it is not known.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.held.get(trust_domain).map(|held| &held.bundle)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.held.values().map(|held| &held.bundle)
    }

    /// Concatenated DER of the X.509 authorities; none if the bundle is not known.
    #[must_use]
    pub fn x509_der(&self, trust_domain: &TrustDomain) -> Option<&[u8]> {
        self.held.get(trust_domain).map(|held| held.x509_der.as_slice())
    }

    /// The JWK set of the JWT authorities; none if the bundle is not known.
    #[must_use]
    pub fn jwks(&self, trust_domain: &TrustDomain) -> Option<&[u8]> {
        self.held.get(trust_domain).map(|held| held.jwks.as_slice())
    }
}

impl Held {
    fn of(bundle: Arc<Bundle>) -> Self {
        // Keys were checked when the bundle was read.
        let jwks = bundle.to_jwks_json().unwrap_or_else(|_| r#"{"keys":[]}"#.into()).into_bytes();
        Self { x509_der: bundle.x509_der(), jwks, bundle }
    }
}

/// Reads a bundle as the server sends it.
///
/// # Errors
/// What is wrong with it, as part of a sentence.
pub fn from_wire(wire: types::Bundle) -> Result<Bundle, String> {
    let trust_domain = TrustDomain::parse(&wire.trust_domain)
        .map_err(|error| format!("`{}`: {error}", wire.trust_domain))?;
    let tainted = wire.x509_authorities.iter().filter(|authority| authority.tainted);
    let tainted = tainted
        .filter_map(|authority| CertInfo::parse(&authority.asn1.as_slice().into()).ok()?.subject_key_id)
        .collect();
    let x509_authorities =
        wire.x509_authorities.into_iter().map(|authority| CertificateDer::from(authority.asn1)).collect();
    let positive = |seconds: i64| u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    let jwt_authorities = wire
        .jwt_authorities
        .into_iter()
        .map(|wire| {
            let expires_at = positive(wire.expires_at).map(time::from_secs);
            let key = JwtKey { kid: wire.key_id, spki_der: wire.public_key, expires_at };
            key.public_key().map_err(|error| format!("JWT authority `{}`: {error}", key.kid))?;
            Ok(key)
        })
        .collect::<Result<_, String>>()?;
    Ok(Bundle {
        trust_domain,
        x509_authorities,
        tainted,
        jwt_authorities,
        sequence: wire.sequence_number,
        refresh_hint: positive(wire.refresh_hint).map(Duration::from_secs),
    })
}
