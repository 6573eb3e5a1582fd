//! Coming back to the server after an outage, by a key that it signed for once.
//!
//! Owns that exchange: the server proves that it is the one that signed, by its bootstrap key, and the agent by its own key, in
//! one handshake that no date and no authority of the trust domain plays a part in. It must never decide when.

use std::{sync::Arc, time::SystemTime};

use svidecar_authority::{
    bundle::Bundle,
    key::{KeyType, PrivateKey},
};

use super::node::{self, Proof};
use crate::{
    error::AgentError,
    server::{Address, Trust, dial_as, get_bundle},
    svid::HeldSvid,
};

/// What an agent has that came back.
pub struct Back {
    /// Its SVID. It is not on disk yet.
    pub svid: Arc<HeldSvid>,
    /// The trust domain's bundle.
    pub bundle: Arc<Bundle>,
}

/// Comes back as the agent that `before` was. If the answer is lost, the same again gives the same.
///
/// # Errors
/// [`AgentError::Evicted`] when the server says that the agent was banned or deleted; [`AgentError::Doubted`] when it knows the
/// agent by another key; [`AgentError::Expired`] when it is too late; [`AgentError::Untrusted`] when the server has not the key
/// that it had; others when it cannot be asked.
pub async fn come_back(address: &Address, before: &HeldSvid, now: SystemTime) -> Result<Back, AgentError> {
    let Some(membership) = &before.membership else { return Err(AgentError::Expired) };
    let shown = membership.identity(&before.key).map_err(AgentError::Key)?;
    let trust = Trust::Key(membership.server_key().to_owned());
    let channel = dial_as(address, &trust, shown).await?;
    let bundle = get_bundle(address, channel.clone()).await?;
    if bundle.x509_authorities.is_empty() {
        return Err(AgentError::BadAnswer {
            what: "GetBundle",
            reason: "it has no X.509 authority".to_owned(),
        });
    }
    let key = PrivateKey::generate(KeyType::EcP256).map_err(|error| AgentError::Key(error.to_string()))?;
    let proof = Proof::Membership(&before.spiffe_id);
    let svid = node::attest(address, channel, proof, key, now).await?;
    Ok(Back { svid: Arc::new(svid), bundle: Arc::new(bundle) })
}
