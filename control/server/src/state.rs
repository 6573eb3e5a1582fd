//! What the parts of a running server share.
//!
//! Owns nothing but the bundle of handles and the settings that calls depend on. It must never know who uses it.

use std::{sync::Arc, time::Duration};

use svidecar_authority::UnixTime;
use svidecar_config::server::ServerSettings;
use svidecar_id::TrustDomain;
use svidecar_process::{Clock, Source, Throttle};

use crate::{
    ca::{CaError, CaManager},
    clock::ClockGuard,
    entries::AuthorizedEntries,
    limits::Limits,
    renewals::Renewals,
    store::Store,
};

/// What every part that answers calls shares.
pub struct State {
    /// Ours.
    pub trust_domain: TrustDomain,
    /// Where changes go, and listings come from.
    pub store: Arc<dyn Store>,
    /// What is answered from memory.
    pub entries: Arc<AuthorizedEntries>,
    /// What is known of agents beyond the store.
    pub renewals: Renewals,
    /// Who signs.
    pub ca: Arc<CaManager>,
    /// What time it is.
    pub clock: Clock,
    /// Whether that is to be believed.
    pub guard: Arc<ClockGuard>,
    /// How long an agent's SVID lives.
    pub agent_ttl: Duration,
    /// How long after that it may come back.
    pub agent_grace: Duration,
    /// How long an X.509-SVID lives whose entry does not say.
    pub default_x509_svid_ttl: Duration,
    /// How long a JWT-SVID lives whose entry does not say.
    pub default_jwt_svid_ttl: Duration,
    /// Whether JWT-SVIDs are refused.
    pub disable_jwt_svids: bool,
    /// How often who may ask.
    pub limits: Limits,
    /// For log lines about refusals, by whom they are caused.
    pub strangers: Throttle<Source>,
}

impl State {
    /// Brings the parts together.
    #[must_use]
    pub fn new(
        settings: &ServerSettings,
        store: Arc<dyn Store>,
        entries: Arc<AuthorizedEntries>,
        ca: Arc<CaManager>,
        (clock, guard): (Clock, Arc<ClockGuard>),
    ) -> Self {
        Self {
            trust_domain: settings.trust_domain.clone(),
            renewals: Renewals::new(Arc::clone(&store)),
            store,
            entries,
            ca,
            clock,
            guard,
            agent_ttl: settings.agent_svid_ttl().get(),
            agent_grace: settings.agent_grace.get(),
            default_x509_svid_ttl: settings.default_x509_svid_ttl.get(),
            default_jwt_svid_ttl: settings.default_jwt_svid_ttl.get(),
            disable_jwt_svids: settings.disable_jwt_svids,
            limits: Limits::new(&settings.ratelimit),
            strangers: Throttle::of_strangers(),
        }
    }

    /// Signs something at the time of now. Where nobody signs at that time, the clock is looked at: it may have jumped without a word
    /// of the system, and then the authorities are told.
    ///
    /// # Errors
    /// As `sign`.
    pub fn sign<T>(
        &self,
        sign: impl FnOnce(&CaManager, UnixTime) -> Result<T, CaError>,
    ) -> Result<T, CaError> {
        let signed = sign(&self.ca, self.clock.now());
        if signed.is_err() {
            self.guard.doubt();
        }
        signed
    }
}
