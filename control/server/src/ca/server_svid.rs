//! The server's own SVID, `spiffe://TRUST-DOMAIN/spire/server`, by SPIRE's name so that SPIRE agents know it.

use std::time::Duration;

use svidecar_authority::{
    UnixTime,
    key::{KeyType, PrivateKey},
    time::{between, plus},
    tls::Identity,
    x509::{SvidParams, X509Ca},
};
use svidecar_id::{SpiffeId, TrustDomain};

use super::CaError;

/// The server's ID.
pub(super) fn id_in(trust_domain: &TrustDomain) -> Result<SpiffeId, CaError> {
    SpiffeId::new(trust_domain, "/spire/server").map_err(|error| {
        svidecar_authority::AuthorityError::Id { text: format!("{}/spire/server", trust_domain.id()), error }
            .into()
    })
}

/// An SVID with its key, and when it is renewed.
#[derive(Clone)]
pub(super) struct ServerSvid {
    identity: Identity,
    not_before: UnixTime,
    renew_at: UnixTime,
    overdue_at: UnixTime,
}

impl ServerSvid {
    /// Signs a new one.
    pub(super) fn sign(ca: &X509Ca, ttl: Duration, now: UnixTime) -> Result<Self, CaError> {
        let id = id_in(ca.trust_domain())?;
        let key = PrivateKey::generate(KeyType::EcP256)?;
        let svid = ca.sign_svid(&SvidParams::new(id, key.spki_der(), ttl), now)?;
        Ok(Self {
            not_before: svid.not_before,
            renew_at: plus(now, between(now, svid.not_after) / 2),
            overdue_at: plus(now, between(now, svid.not_after) * 3 / 4),
            identity: Identity::new(svid.chain, key.pkcs8_der())?,
        })
    }

    pub(super) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it should have been renewed long ago.
    pub(super) fn is_overdue(&self, now: UnixTime) -> bool {
        self.overdue_at <= now
    }

    /// Whether half of its life is over, or it is not valid yet because the clock was set back.
    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        self.renew_at <= now || now < self.not_before
    }
}
