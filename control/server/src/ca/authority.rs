//! The two kinds of authority, behind one face, so that rotation is written once.

use std::sync::Arc;

use svidecar_authority::{
    CertificateDer, UnixTime,
    jwt::{JwtSigner, new_kid},
    key::{KeyType, PrivateKey},
    time::plus,
    x509::{CaParams, Subject, X509Ca},
};
use svidecar_config::server::{self, ServerSettings};
use svidecar_id::TrustDomain;

use super::{CaError, schedule::Life};
use crate::store::{self, BundleRecord, unix_seconds};

/// What new authorities are made by.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) trust_domain: TrustDomain,
    pub(super) ca_ttl: std::time::Duration,
    x509_key: KeyType,
    jwt_key: KeyType,
    subject: Subject,
}

impl Recipe {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        let subject = &settings.ca_subject;
        Self {
            trust_domain: settings.trust_domain.clone(),
            ca_ttl: settings.ca_ttl.get(),
            x509_key: key_type(settings.ca_key_type),
            jwt_key: key_type(settings.jwt_key()),
            subject: Subject {
                country: subject.country.first().cloned(),
                organization: subject.organization.first().cloned(),
                organizational_unit: None,
                common_name: Some(subject.common_name.clone()).filter(|name| !name.is_empty()),
            },
        }
    }
}

const fn key_type(setting: server::KeyType) -> KeyType {
    match setting {
        server::KeyType::EcP256 => KeyType::EcP256,
        server::KeyType::EcP384 => KeyType::EcP384,
        server::KeyType::Rsa2048 => KeyType::Rsa2048,
        server::KeyType::Rsa4096 => KeyType::Rsa4096,
    }
}

/// One kind of authority.
pub(super) trait Authority: Clone + Send + Sync + Sized + 'static {
    /// Its name in key files.
    const KIND: &'static str;
    /// Its name in logs.
    const NAME: &'static str;

    /// Makes a new one with a fresh key. Blocks for seconds when the key is RSA.
    fn create(recipe: &Recipe, now: UnixTime) -> Result<Self, CaError>;
    /// Puts one together from what was kept; an error when the key is not its own.
    fn restore(id: &str, public: Vec<u8>, life: Life, key: PrivateKey) -> Result<Self, CaError>;
    /// Adds its public half to the bundle.
    fn publish(&self, bundle: &mut BundleRecord);
    fn id(&self) -> &str;
    fn public(&self) -> Vec<u8>;
    fn key(&self) -> &PrivateKey;
    fn not_after(&self) -> UnixTime;
}

impl Authority for Arc<X509Ca> {
    const KIND: &'static str = "x509";
    const NAME: &'static str = "X.509";

    fn create(recipe: &Recipe, now: UnixTime) -> Result<Self, CaError> {
        let params = CaParams {
            trust_domain: recipe.trust_domain.clone(),
            ttl: recipe.ca_ttl,
            subject: recipe.subject.clone(),
        };
        Ok(Self::new(X509Ca::self_signed(&params, PrivateKey::generate(recipe.x509_key)?, now)?))
    }

    fn restore(_: &str, public: Vec<u8>, _: Life, key: PrivateKey) -> Result<Self, CaError> {
        Ok(Self::new(X509Ca::load(CertificateDer::from(public), Vec::new(), key)?))
    }

    fn publish(&self, bundle: &mut BundleRecord) {
        bundle.append(vec![store::X509Authority { der: self.public(), tainted: false }], Vec::new());
    }

    fn id(&self) -> &str {
        self.authority_id()
    }

    fn public(&self) -> Vec<u8> {
        self.certificate().to_vec()
    }

    fn key(&self) -> &PrivateKey {
        X509Ca::key(self)
    }

    fn not_after(&self) -> UnixTime {
        X509Ca::not_after(self)
    }
}

/// A key that signs JWT-SVIDs, and until when it may.
pub struct JwtAuthority {
    /// Key and name.
    pub signer: JwtSigner,
    /// No token lives longer.
    pub not_after: UnixTime,
}

impl Authority for Arc<JwtAuthority> {
    const KIND: &'static str = "jwt";
    const NAME: &'static str = "JWT";

    fn create(recipe: &Recipe, now: UnixTime) -> Result<Self, CaError> {
        let signer = JwtSigner::new(new_kid()?, PrivateKey::generate(recipe.jwt_key)?)?;
        Ok(Self::new(JwtAuthority { signer, not_after: plus(now, recipe.ca_ttl) }))
    }

    fn restore(id: &str, public: Vec<u8>, life: Life, key: PrivateKey) -> Result<Self, CaError> {
        if key.spki_der() != public {
            return Err(svidecar_authority::AuthorityError::KeyMismatch.into());
        }
        Ok(Self::new(JwtAuthority { signer: JwtSigner::new(id, key)?, not_after: life.not_after }))
    }

    fn publish(&self, bundle: &mut BundleRecord) {
        let key = store::JwtAuthority {
            key_id: self.signer.kid().to_owned(),
            spki_der: self.public(),
            expires_at: unix_seconds(self.not_after),
            tainted: false,
        };
        bundle.append(Vec::new(), vec![key]);
    }

    fn id(&self) -> &str {
        self.signer.kid()
    }

    fn public(&self) -> Vec<u8> {
        self.signer.key().spki_der()
    }

    fn key(&self) -> &PrivateKey {
        self.signer.key()
    }

    fn not_after(&self) -> UnixTime {
        self.not_after
    }
}
