//! Joins a server that took the place of the one that this agent knew.
//!
//! Owns when an agent may believe a server that its bundle does not verify: only when there is a join token that it has
//! not used before, and the trust bundle of its settings, or without one the token, names a root that this server has and
//! that the agent does not know. Only an operator could place these. A root that it knows is no word of another server:
//! whoever answers in between must not make it join its own server again, and lose what it is there. Nothing is sent
//! to a server that was not verified so, and what the agent had goes when the new is on disk, not before.

use std::sync::Arc;

use svidecar_authority::{
    bundle::{Bundle, BundleSet},
    key::{KeyType, PrivateKey},
};
use svidecar_config::agent::AgentSettings;
use svidecar_process::clock;
use tonic::transport::Channel;

use super::{
    meet::meet_another,
    node::{self, Proof},
    source::Source,
    token::{JoinToken, TokenSource},
};
use crate::{
    error::AgentError,
    server::{Address, Trust, dial, get_bundle},
    state::{Joined, Joining, Store},
    svid::HeldSvid,
};

const NO_PIN: &str = "the join token that this agent has carries no hash that names a server, and neither trust_bundle_path nor trust_bundle_url is set";

/// What an agent goes by when its server was replaced.
pub struct Rejoin {
    store: Store,
    /// Where a join token for the other server would be.
    token: TokenSource,
    /// The trust bundle that an operator wrote down, which goes before the token's pin.
    written_down: Option<Source>,
}

/// What the other server gave.
pub struct Rejoined {
    /// The agent's SVID. It is not on disk yet.
    pub svid: Arc<HeldSvid>,
    /// The trust domain's bundle.
    pub bundle: Arc<Bundle>,
    /// How the agent came to trust that server.
    pub joined: Joined,
}

impl Rejoin {
    /// As the settings say; `store` is where the agent's own state is.
    #[must_use]
    pub fn of(settings: &AgentSettings, store: Store) -> Self {
        Self { store, token: TokenSource::of(settings), written_down: Source::written_down(settings) }
    }

    /// Joins the server that answers at `address` now. `known` is the bundle that does not verify it, `own_key` the hash of the
    /// bootstrap key of the server that the agent knows, `seen` why that bundle does not verify it, and `joined` how the agent
    /// came to trust the server before.
    ///
    /// # Errors
    /// [`AgentError::ServerReplaced`] with what the operator can do; [`AgentError::Untrusted`] when nothing says that the
    /// server was replaced; others when the server does not answer or refuses.
    pub async fn join(
        &self,
        address: &Address,
        known: &Bundle,
        own_key: Option<&str>,
        joined: &Joined,
        seen: &str,
    ) -> Result<Rejoined, AgentError> {
        let replaced = |why: String| AgentError::ServerReplaced {
            server: address.to_string(),
            seen: seen.to_owned(),
            why,
        };
        let token = self.new_token(joined).map_err(replaced)?;
        let source = Source::verified(self.written_down.clone(), &token);
        let source = source.ok_or_else(|| replaced(NO_PIN.to_owned()))?;
        let is_own = matches!((&source, own_key), (Source::Pin(pin), Some(own)) if pin == own);
        let met = if is_own { Ok(None) } else { meet_another(address, &source, known).await };
        let (channel, bundle) = match met {
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
        self.attest(address, channel, bundle, &token, false).await
    }

    /// Joins the server that the agent knows as another agent, because that does not take it for the one it was: only by a
    /// token that it has not used before, which an operator placed for it.
    ///
    /// # Errors
    /// [`AgentError::Doubted`] when there is none; others when the server does not answer or refuses.
    pub async fn join_again(
        &self,
        address: &Address,
        known: &Bundle,
        joined: &Joined,
    ) -> Result<Rejoined, AgentError> {
        let token =
            self.new_token(joined).map_err(|reason| AgentError::Doubted { reason, by_server: false })?;
        let trust = Trust::Bundle(Arc::new(BundleSet::of(known.clone())));
        let channel = dial(address, &trust).await?;
        let bundle = get_bundle(address, channel.clone()).await?;
        self.attest(address, channel, bundle, &token, joined.insecure_bootstrap).await
    }

    async fn attest(
        &self,
        address: &Address,
        channel: Channel,
        bundle: Bundle,
        token: &JoinToken,
        insecure_bootstrap: bool,
    ) -> Result<Rejoined, AgentError> {
        let key = self.joining_key(token).await?;
        let svid =
            node::attest(address, channel, Proof::Token(token), key, clock::wall()).await.map(Arc::new)?;
        let joined = Joined { insecure_bootstrap, token_digest: Some(token.digest()) };
        Ok(Rejoined { svid, bundle: Arc::new(bundle), joined })
    }

    /// The join token that is there now, if it can name another server; else why not.
    fn new_token(&self, joined: &Joined) -> Result<JoinToken, String> {
        let token = self.token.read().map_err(|error| error.to_string())?;
        let token = token.ok_or("this agent has no join token")?;
        match &joined.token_digest {
            Some(before) if *before == token.digest() => {
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
        self.store
            .off_the_async_threads(move |store| {
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
}
