//! Where the server is, and who it has to be.

use std::fmt;

use svidecar_config::agent::AgentSettings;
use svidecar_id::{SpiffeId, TrustDomain};

use crate::error::AgentError;

/// Where the server is.
#[derive(Debug, Clone)]
pub struct Address {
    /// DNS name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Its SVID must be `spiffe://TRUST-DOMAIN/spire/server`.
    pub trust_domain: TrustDomain,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &AgentSettings) -> Self {
        Self {
            host: settings.server_address.clone(),
            port: settings.server_port,
            trust_domain: settings.trust_domain.clone(),
        }
    }

    /// The ID that every server of a trust domain has.
    ///
    /// # Errors
    /// When the trust domain's name leaves no room for it.
    pub fn server_id(&self) -> Result<SpiffeId, AgentError> {
        SpiffeId::new(&self.trust_domain, "/spire/server").map_err(|error| AgentError::BadAnswer {
            what: "the trust domain's name",
            reason: error.to_string(),
        })
    }
}
