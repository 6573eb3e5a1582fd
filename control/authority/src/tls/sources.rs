//! Where a handshake takes its own identity and the trusted bundles from, and an SVID in the form that it presents.

use std::{fmt, sync::Arc};

use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{AuthorityError, bundle::BundleSet};

/// Where the current identity comes from, asked at every handshake; `None` refuses the handshake.
pub trait IdentitySource: Send + Sync {
    /// The identity to present now.
    fn identity(&self) -> Option<Arc<CertifiedKey>>;
}

impl<F: Fn() -> Option<Arc<CertifiedKey>> + Send + Sync> IdentitySource for F {
    fn identity(&self) -> Option<Arc<CertifiedKey>> {
        self()
    }
}

/// Where the trusted bundles come from, asked at every handshake.
pub trait BundleSource: Send + Sync {
    /// The bundles that are trusted now.
    fn bundles(&self) -> Arc<BundleSet>;
}

impl<F: Fn() -> Arc<BundleSet> + Send + Sync> BundleSource for F {
    fn bundles(&self) -> Arc<BundleSet> {
        self()
    }
}

/// An SVID with its key, ready to be presented.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Joins a chain, leaf first, and its unencrypted PKCS#8 key, of any type that TLS can sign with.
    ///
    /// # Errors
    /// [`AuthorityError::Tls`] when the key cannot be used, [`AuthorityError::KeyMismatch`] when it is not the leaf's.
    pub fn new(chain: Vec<CertificateDer<'static>>, pkcs8_der: &[u8]) -> Result<Self, AuthorityError> {
        // Borrowed, because rustls would not wipe a copy of its own.
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8_der));
        let refuse = |error: rustls::Error| AuthorityError::Tls { reason: error.to_string() };
        let signer = aws_lc_rs::sign::any_supported_type(&key).map_err(refuse)?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            Ok(()) => Ok(Self(Arc::new(certified))),
            Err(rustls::Error::InconsistentKeys(_)) => Err(AuthorityError::KeyMismatch),
            Err(other) => Err(refuse(other)),
        }
    }

    /// In rustls' form, shared.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }
}

impl IdentitySource for Identity {
    fn identity(&self) -> Option<Arc<CertifiedKey>> {
        Some(self.certified_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.0.cert.len()).finish_non_exhaustive()
    }
}

/// For a client that has no identity yet: presents none.
#[derive(Debug, Clone, Copy)]
pub struct NoIdentity;

impl IdentitySource for NoIdentity {
    fn identity(&self) -> Option<Arc<CertifiedKey>> {
        None
    }
}
