//! Bundles: our own and those of the trust domains we federate with.

use svidecar_id::TrustDomain;

use crate::store::error::StoreError;

/// The authorities of one trust domain, our own or a federated one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRecord {
    /// Whose.
    pub trust_domain: TrustDomain,
    /// Roots of X.509-SVIDs.
    pub x509_authorities: Vec<X509Authority>,
    /// Keys of JWT-SVIDs.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// How often to look for a new one, seconds; 0 when not given.
    pub refresh_hint: i64,
    /// Grows with each change.
    pub sequence: u64,
}

/// A root of X.509-SVIDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct X509Authority {
    /// The certificate.
    pub der: Vec<u8>,
    /// Whether what it signed is to be replaced.
    pub tainted: bool,
}

/// A key of JWT-SVIDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JwtAuthority {
    /// Its `kid`.
    pub key_id: String,
    /// The public key, PKIX DER.
    pub spki_der: Vec<u8>,
    /// When it ends; 0 is not told.
    pub expires_at: i64,
    /// Whether what it signed is to be replaced.
    pub tainted: bool,
}

impl BundleRecord {
    /// A bundle with no authorities.
    #[must_use]
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            refresh_hint: 0,
            sequence: 0,
        }
    }

    /// Adds the authorities that are not there yet (by certificate, by key ID). A change raises the sequence number.
    pub fn append(&mut self, x509: Vec<X509Authority>, jwt: Vec<JwtAuthority>) {
        let before = (self.x509_authorities.len(), self.jwt_authorities.len());
        for authority in x509 {
            if !self.x509_authorities.iter().any(|known| known.der == authority.der) {
                self.x509_authorities.push(authority);
            }
        }
        for authority in jwt {
            if !self.jwt_authorities.iter().any(|known| known.key_id == authority.key_id) {
                self.jwt_authorities.push(authority);
            }
        }
        if before != (self.x509_authorities.len(), self.jwt_authorities.len()) {
            self.sequence += 1;
        }
    }

    /// That it has no more authorities of a kind than it may.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn check_size(&self, most_x509: usize, most_jwt: usize) -> Result<(), StoreError> {
        for (kind, count, most) in [
            ("X.509 authorities", self.x509_authorities.len(), most_x509),
            ("token keys", self.jwt_authorities.len(), most_jwt),
        ] {
            if count > most {
                return Err(StoreError::Invalid(format!(
                    "the bundle of {} would have {count} {kind}; at most {most} are taken",
                    self.trust_domain
                )));
            }
        }
        Ok(())
    }

    /// Keeps the authorities that the two questions answer with true. A change raises the sequence number.
    pub fn retain(
        &mut self,
        x509: impl FnMut(&X509Authority) -> bool,
        jwt: impl FnMut(&JwtAuthority) -> bool,
    ) {
        let before = (self.x509_authorities.len(), self.jwt_authorities.len());
        self.x509_authorities.retain(x509);
        self.jwt_authorities.retain(jwt);
        if before != (self.x509_authorities.len(), self.jwt_authorities.len()) {
            self.sequence += 1;
        }
    }
}

/// A change of a bundle, made while nobody else changes it; an error leaves it as it was. It must not block.
pub type BundleChange = Box<dyn FnOnce(&mut BundleRecord) -> Result<(), StoreError> + Send>;

/// What becomes of the entries that federate with a bundle that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteMode {
    /// They keep the bundle from being deleted.
    Restrict,
    /// They are deleted too.
    Delete,
    /// They stay, without that trust domain.
    Dissociate,
}
