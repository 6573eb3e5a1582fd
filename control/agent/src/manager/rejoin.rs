//! Joins a server that took the place of the one that this agent knew.
//!
//! Owns when an agent may believe a server that its bundle does not verify: only when there is a join token that it has
//! not used before, and the trust bundle of its settings, or without one the token, names a root that this server has and
//! that the agent does not know. Only an operator could place these. A root that it knows is no word of another server:
//! whoever answers in between must not make it join its own server again, and lose what it is there. Nothing is sent
//! to a server that was not verified so, and what the agent had goes when the new is on disk, not before.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use svidecar_authority::{
    bundle::Bundle,
    key::{KeyType, PrivateKey},
};

use super::{Manager, persist::Written};
use crate::{
    attest::node::{self, JoinToken},
    bootstrap::{self, Source},
    error::AgentError,
    state::{AgentState, Joined, Joining},
    svid::HeldSvid,
};

/// How long entries that the old server made may wait for the new server's word.
const GRACE: Duration = Duration::from_secs(30);

impl Manager {
    /// Joins the server that answers now. `seen` is why our bundle does not verify it.
    ///
    /// # Errors
    /// [`AgentError::ServerReplaced`] with what the operator can do; [`AgentError::Untrusted`] when nothing says that the
    /// server was replaced; others when the server does not answer or refuses.
    pub(crate) async fn rejoin(&self, seen: &str) -> Result<(), AgentError> {
        let address = self.link.address();
        let replaced = |why: String| AgentError::ServerReplaced {
            server: address.to_string(),
            seen: seen.to_owned(),
            why,
        };
        let token = self.new_token().map_err(replaced)?;
        let source = Source::verified(self.options.written_down.clone(), &token);
        let source = source.ok_or_else(|| replaced(NO_PIN.to_owned()))?;
        let known = self.bundles().get(&address.trust_domain).cloned();
        let known = known.unwrap_or_else(|| Arc::new(Bundle::empty(address.trust_domain.clone())));
        let (channel, bundle) = match bootstrap::meet_another(address, &source, &known).await {
            Ok(Some(met)) => met,
            Ok(None) => {
                return Err(AgentError::Untrusted {
                    server: address.to_string(),
                    reason: format!(
                        "{seen}; {source} names the server that this agent knows already, so it joins no other"
                    ),
                });
            }
            Err(AgentError::Untrusted { reason, .. }) => {
                return Err(replaced(format!("{source} does not verify it: {reason}")));
            }
            Err(
                error @ (AgentError::PinMismatch { .. }
                | AgentError::Bootstrap { .. }
                | AgentError::File { .. }),
            ) => {
                return Err(replaced(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let key = self.joining_key(&token).await?;
        let svid = node::attest(address, channel, &token, key, SystemTime::now()).await.map(Arc::new)?;
        let joined = Joined { insecure_bootstrap: false, token_digest: Some(token.digest()) };
        let before = self.link.identity();
        self.take_over(Arc::clone(&svid), Arc::new(bundle), joined).await?;
        tracing::warn!(
            server = %address, spiffe_id = %svid.spiffe_id, spiffe_id_before = %before.spiffe_id, seen,
            "the server was replaced, and the join token says that this is it: the agent has joined anew. All that the \
             old server signed is dropped"
        );
        Ok(())
    }

    /// The join token that is there now, if it can name another server; else why not.
    fn new_token(&self) -> Result<JoinToken, String> {
        let token = self.options.token.read().map_err(|error| error.to_string())?;
        let token = token.ok_or("this agent has no join token")?;
        match self.joined().token_digest {
            Some(before) if before == token.digest() => {
                Err("the join token that this agent has is the one that it joined the old server with"
                    .to_owned())
            }
            Some(_) => Ok(token),
            None => {
                Err("an earlier version of this agent did not note which token it joined with".to_owned())
            }
        }
    }

    /// The key to join with. On disk before it is used: if the answer is lost, the same token with the same key gives the
    /// same result.
    async fn joining_key(&self, token: &JoinToken) -> Result<PrivateKey, AgentError> {
        let token_digest = token.digest();
        self.blocking(move |store| {
            if let Some(joining) = store.load_joining()?
                && joining.token_digest == token_digest
            {
                return Ok(joining.key);
            }
            let key = PrivateKey::generate(KeyType::EcP256);
            let key = key.map_err(|error| AgentError::Key(error.to_string()))?;
            store.save_joining(&Joining { token_digest, key: key.clone() })?;
            Ok(key)
        })
        .await
    }

    /// Goes over to another server, and drops what the one before signed.
    async fn take_over(
        &self,
        svid: Arc<HeldSvid>,
        bundle: Arc<Bundle>,
        joined: Joined,
    ) -> Result<(), AgentError> {
        let mut written = self.written.lock().await;
        let state = AgentState {
            key: svid.key.clone(),
            svid: Some(Arc::clone(&svid)),
            bundle: Some(Arc::clone(&bundle)),
            joined: joined.clone(),
        };
        self.blocking(move |store| {
            store.save_agent(&state)?;
            store.forget_joining()
        })
        .await?;
        *written = Some(Written::new(Arc::clone(&svid), Some(Arc::clone(&bundle))));
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = joined;
        metrics::gauge!("svidecar_agent_insecure_bootstrap").set(0.0);
        self.cache().replace_authority(bundle, SystemTime::now() + GRACE);
        self.tokens().retain(|_| false);
        self.link.set_identity(svid);
        self.dirty.notify_one();
        Ok(())
    }
}

const NO_PIN: &str = "the join token that this agent has is not pinned to a root, and neither trust_bundle_path nor trust_bundle_url is set";
