//! X.509-SVIDs as the agent holds them: its own and its workloads'.
//!
//! Owns the reading of what a server issued; an SVID for another ID or another key than asked for is
//! refused here. No `Debug`: it has the private key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use svidecar_api::spire::api::types;
use svidecar_authority::{
    CertificateDer, UnixTime,
    key::{PrivateKey, key_hash},
    tls::Identity,
    x509::CertInfo,
};
use svidecar_id::SpiffeId;

use crate::schedule;

/// Certificates that a chain may have; real ones have one to four.
const MAX_CHAIN: usize = 16;

/// An SVID with its key.
pub struct HeldSvid {
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKey,
    /// When we got it; issuers backdate `notBefore`.
    pub obtained: SystemTime,
    /// Beginning of the leaf's validity.
    pub not_before: SystemTime,
    /// End of the leaf's validity.
    pub not_after: SystemTime,
    /// The key of the authority that signed it, as the bundle's roots name theirs.
    pub authority: Option<String>,
    /// What lets the agent come back with this key; none for workloads, and where the server has no such thing.
    pub membership: Option<Membership>,
}

/// What lets an agent come back with its key when its SVID does not: a certificate of the server's bootstrap key.
pub struct Membership {
    certificate: CertificateDer<'static>,
    issuer: CertificateDer<'static>,
    server_key: String,
}

impl Membership {
    /// Takes what came with an SVID for `key`, or was kept.
    ///
    /// # Errors
    /// What is wrong with it, as part of a sentence.
    pub fn read(chain: Vec<Vec<u8>>, key: &PrivateKey) -> Result<Self, String> {
        let mut chain = chain.into_iter().map(CertificateDer::from);
        let (Some(certificate), Some(issuer)) = (chain.next(), chain.next()) else {
            return Err("it is not two certificates".into());
        };
        let parse = |certificate| CertInfo::parse(certificate).map_err(|error| error.to_string());
        if parse(&certificate)?.spki_der != key.spki_der() {
            return Err("it is for another key".into());
        }
        let server_key = key_hash(&parse(&issuer)?.spki_der);
        Ok(Self { certificate, issuer, server_key })
    }

    /// The hash of the bootstrap key that the server proves itself by.
    #[must_use]
    pub fn server_key(&self) -> &str {
        &self.server_key
    }

    /// Both certificates, as they are kept.
    #[must_use]
    pub fn chain(&self) -> [CertificateDer<'static>; 2] {
        [self.certificate.clone(), self.issuer.clone()]
    }

    /// As it is shown in a handshake.
    ///
    /// # Errors
    /// Why the key cannot be used.
    pub fn identity(&self, key: &PrivateKey) -> Result<Identity, String> {
        Identity::new(vec![self.certificate.clone()], key.pkcs8_der()).map_err(|error| error.to_string())
    }
}

impl HeldSvid {
    /// Takes what the server issued for `key`. The server names the ID: `expected` is none at first
    /// attestation only.
    ///
    /// # Errors
    /// What is wrong with it, as part of a sentence.
    pub fn accept(
        wire: types::X509svid,
        key: PrivateKey,
        expected: Option<&SpiffeId>,
        now: SystemTime,
    ) -> Result<Self, String> {
        let chain = wire.cert_chain.into_iter().map(CertificateDer::from).collect();
        let svid = Self::read(chain, key, now)?;
        match expected {
            Some(expected) if *expected != svid.spiffe_id => {
                Err(format!("it is for {} instead of {expected}", svid.spiffe_id))
            }
            _ => Ok(svid),
        }
    }

    /// Reads a chain, from the server or from disk.
    ///
    /// # Errors
    /// What is wrong with it, as part of a sentence.
    pub fn read(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        obtained: SystemTime,
    ) -> Result<Self, String> {
        let leaf = chain.first().ok_or("the certificate chain is empty")?;
        if chain.len() > MAX_CHAIN {
            return Err(format!("the chain has {} certificates, more than {MAX_CHAIN}", chain.len()));
        }
        let info = CertInfo::parse(leaf).map_err(|error| error.to_string())?;
        if info.spki_der != key.spki_der() {
            return Err("the certificate is for another key than the one that was sent".into());
        }
        let spiffe_id = info.spiffe_id.ok_or("the certificate has no SPIFFE ID")?;
        let authority = match chain.get(1..).unwrap_or_default().last() {
            None => info.authority_key_id,
            Some(last) => CertInfo::parse(last).map_err(|error| error.to_string())?.authority_key_id,
        };
        Ok(Self {
            spiffe_id,
            not_before: system_time(info.not_before),
            not_after: system_time(info.not_after),
            chain,
            key,
            obtained,
            authority,
            membership: None,
        })
    }

    /// The same, with what came beside it that lets the agent come back.
    #[must_use]
    pub fn with_membership(mut self, chain: Vec<Vec<u8>>) -> Self {
        if chain.is_empty() {
            return self;
        }
        let read = Membership::read(chain, &self.key);
        self.membership = read
            .inspect_err(|reason| tracing::warn!(reason, "what lets this agent come back cannot be used"))
            .ok();
        self
    }

    /// When to renew it. One that we got at a time outside of its life was got while the clock was wrong; then it counts from
    /// its beginning.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let seed = self.chain.first().map_or(&[][..], |leaf| leaf.as_ref());
        let is_plausible = self.not_before <= self.obtained && self.obtained < self.not_after;
        let from = if is_plausible { self.obtained } else { self.not_before };
        schedule::renew_at(from, self.not_after, seed)
    }

    /// When to renew it, seen from `now`: at once if it is not valid yet, because the clock was ahead when it was signed.
    #[must_use]
    pub fn due_at(&self, now: SystemTime) -> SystemTime {
        if self.is_early(now) { now } else { self.renew_at() }
    }

    /// Whether it is not valid yet.
    #[must_use]
    pub fn is_early(&self, now: SystemTime) -> bool {
        now < self.not_before
    }

    /// Whether anybody can use it.
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        !self.is_early(now) && !self.is_over(now)
    }

    /// Whether it has less than a quarter of its life left.
    #[must_use]
    pub fn is_ending(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_after.duration_since(now).unwrap_or_default() < life / 4
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.not_after <= now
    }

    /// The chain as the Workload API wants it: concatenated DER.
    #[must_use]
    pub fn chain_der(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect()
    }
}

/// The form of time that clocks and timers use.
#[must_use]
pub fn system_time(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

/// The form of time that certificates and tokens use.
#[must_use]
pub fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
