//! X.509-SVIDs as the agent holds them: its own and its workloads'.
//!
//! Owns the reading of what a server issued; an SVID for another ID or another key than asked for is
//! refused here. No `Debug`: it has the private key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use svidecar_api::spire::api::types;
use svidecar_authority::{CertificateDer, UnixTime, key::PrivateKey, x509::CertInfo};
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
    /// End of the leaf's validity.
    pub not_after: SystemTime,
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
        Ok(Self { spiffe_id, not_after: system_time(info.not_after), chain, key, obtained })
    }

    /// When to renew it.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let seed = self.chain.first().map_or(&[][..], |leaf| leaf.as_ref());
        schedule::renew_at(self.obtained, self.not_after, seed)
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
