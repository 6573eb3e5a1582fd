//! The server's own SVID, `spiffe://TRUST-DOMAIN/spire/server`, by SPIRE's name so that SPIRE agents know it.

use std::time::Duration;

use svidecar_authority::{
    UnixTime,
    key::{KeyType, PrivateKey},
    time::{between, plus},
    tls::Identity,
    x509::{SvidParams, X509Ca},
};
use svidecar_id::SpiffeId;

use super::CaError;

/// An SVID with its key, and when it is renewed.
#[derive(Clone)]
pub(super) struct ServerSvid {
    identity: Identity,
    renew_at: UnixTime,
}

impl ServerSvid {
    /// Signs a new one.
    pub(super) fn sign(ca: &X509Ca, ttl: Duration, now: UnixTime) -> Result<Self, CaError> {
        let trust_domain = ca.trust_domain();
        let id = SpiffeId::new(trust_domain, "/spire/server").map_err(|error| {
            svidecar_authority::AuthorityError::Id {
                text: format!("{}/spire/server", trust_domain.id()),
                error,
            }
        })?;
        let key = PrivateKey::generate(KeyType::EcP256)?;
        let svid = ca.sign_svid(&SvidParams::new(id, key.spki_der(), ttl), now)?;
        Ok(Self {
            renew_at: plus(now, between(now, svid.not_after) / 2),
            identity: Identity::new(svid.chain, key.pkcs8_der())?,
        })
    }

    pub(super) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether half of its life is over.
    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        self.renew_at <= now
    }
}
