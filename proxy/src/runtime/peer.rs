//! The verified peer of a connection: what the handshake has proven, and whether it still holds.
//!
//! Comes from a finished handshake alone; nothing that a peer says in HTTP gets in here.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_authority::{
    bundle::BundleSet,
    x509::{
        X509Error,
        verify::{VerifiedPeer, facts_of_accepted, verify_peer},
    },
};
use svidecar_id::SpiffeId;

/// A peer whose chain our verifier accepted.
pub struct Peer {
    facts: VerifiedPeer,
    chain: Vec<CertificateDer<'static>>,
    /// The bundles that last accepted the chain, so that a snapshot with the same ones costs no cryptography.
    accepted_by: Mutex<Weak<BundleSet>>,
}

impl Peer {
    /// Reads the facts of the chain that a handshake accepted, leaf first.
    ///
    /// # Errors
    /// [`X509Error::NoCertificate`] for an empty chain; never for one that was accepted.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Result<Self, X509Error> {
        let facts = facts_of_accepted(chain.first().ok_or(X509Error::NoCertificate)?)?;
        Ok(Self { facts, chain, accepted_by: Mutex::default() })
    }

    /// Its SPIFFE ID.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.facts.id
    }

    /// What its leaf says.
    #[must_use]
    pub const fn facts(&self) -> &VerifiedPeer {
        &self.facts
    }

    /// The chain that it presented, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Whether its SVID has expired.
    #[must_use]
    pub fn is_expired(&self, now: UnixTime) -> bool {
        now > self.facts.not_after
    }

    /// Takes note of the bundles that were in force in the whole of its handshake: the verifier asked these.
    pub fn accepted_by(&self, bundles: &Arc<BundleSet>) {
        *self.accepted_by.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(bundles);
    }

    /// Verifies the chain again, against the bundles of now. Expiry is not asked: what that means for a live
    /// connection is a setting (`on_peer_expiry`).
    ///
    /// # Errors
    /// Why the chain would not be accepted any more.
    pub fn still_trusted(&self, bundles: &Arc<BundleSet>, now: UnixTime) -> Result<(), X509Error> {
        let mut accepted_by = self.accepted_by.lock().unwrap_or_else(PoisonError::into_inner);
        if std::ptr::eq(accepted_by.as_ptr(), Arc::as_ptr(bundles)) {
            return Ok(());
        }
        let at = now.min(self.facts.not_after);
        verify_peer(&self.chain, bundles, at)?;
        *accepted_by = Arc::downgrade(bundles);
        Ok(())
    }
}
