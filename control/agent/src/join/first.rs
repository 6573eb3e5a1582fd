//! The agent's first SVID: from disk, or by attestation, tried until the server answers.
//!
//! Owns which failures are worth another try. A server that is away is; one that refuses the token is not.

use std::{sync::Arc, time::Duration};

use svidecar_authority::key::{KeyType, PrivateKey};
use svidecar_config::agent::AgentSettings;
use svidecar_process::{Backoff, Clock};
use tokio::sync::watch;
use tonic::Code;

use super::{
    come_back::{Back, come_back},
    meet::meet,
    node::{self, Proof},
    source::Source,
    token::{JoinToken, TokenSource},
};
use crate::{
    error::AgentError,
    server::Address,
    state::{AgentState, Joined, Store},
    status::Status,
    svid::HeldSvid,
};

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(15);

/// An agent with an identity.
pub struct Attested {
    /// What is on disk.
    pub state: AgentState,
    /// The SVID in it.
    pub identity: Arc<HeldSvid>,
}

/// Gives the agent its identity.
///
/// # Errors
/// When no further try can help.
pub async fn first_svid(
    settings: &AgentSettings,
    clock: &Clock,
    store: &Store,
    state: &mut Option<AgentState>,
    status: &watch::Sender<Status>,
) -> Result<Attested, AgentError> {
    let kept = state.as_ref().and_then(|state| state.svid.clone());
    let now = clock.wall();
    match kept {
        Some(svid) if svid.not_after > now => {
            if let Some(state) = state.take() {
                tracing::info!(spiffe_id = %svid.spiffe_id, "the agent's SVID is still good; no attestation is needed");
                return Ok(Attested { state, identity: svid });
            }
        }
        Some(svid) => {
            tracing::warn!("the agent's SVID has ended; asking the server to take it back");
            if let Some(kept) = state {
                match back_again(settings, clock, store, kept, &svid).await? {
                    Again::Taken(agent) => return Ok(*agent),
                    Again::Unanswered => {
                        if let Some(state) = state.take() {
                            return Ok(Attested { state, identity: svid });
                        }
                    }
                    Again::Refused => {}
                }
            }
        }
        None => {}
    }
    let expired = kept_one(state);
    let tokens = TokenSource::of(settings);
    let mut token = match tokens.read()? {
        Some(token) => token,
        None if expired => return Err(AgentError::Expired),
        None => return Err(AgentError::NoJoinToken),
    };
    let mut source = choose(settings, &token)?;
    let key = prepared_key(store, state, source.is_insecure())?;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    loop {
        let error = match once(settings, clock, &source, &token, key.clone()).await {
            Ok(agent) => {
                // The key is on disk, so the same token gives the same again; the rest is tried again while it runs.
                if let Err(error) = store.save_agent(&agent.state) {
                    tracing::error!(%error, code = error.code().name(), "the agent's SVID is not on disk; it is used all the same");
                }
                return Ok(agent);
            }
            Err(error) => error,
        };
        let newer = newer_token(&tokens, &token);
        if newer.is_none() && !worth_another_try(&error) {
            return Err(error);
        }
        let wait = backoff.next_wait(rand::random());
        tracing::warn!(
            %error, code = error.code().name(), tries = backoff.tries(), retry_in_s = wait.as_secs_f32(),
            "attestation did not succeed yet"
        );
        status.send_modify(|status| status.problem = Some(error.to_string()));
        tokio::time::sleep(wait).await;
        // It may have been replaced since: the one before may have no agent any more.
        if let Some(newer) = newer.or_else(|| newer_token(&tokens, &token)) {
            source = choose(settings, &newer)?;
            token = newer;
            tracing::info!("the join token was replaced; the next try is with the new one");
        }
    }
}

/// What becomes of an agent whose SVID has ended.
enum Again {
    /// The server has taken it back.
    Taken(Box<Attested>),
    /// Nobody but the clock has said that it is over. It is that agent still, with all that it kept, and asks again later.
    Unanswered,
    /// Only another token helps.
    Refused,
}

/// Comes back as the agent that it was, if the server is there to say so.
async fn back_again(
    settings: &AgentSettings,
    clock: &Clock,
    store: &Store,
    kept: &AgentState,
    before: &Arc<HeldSvid>,
) -> Result<Again, AgentError> {
    if before.membership.is_none() {
        let token = TokenSource::of(settings).read().ok().flatten();
        let is_new = token.is_some_and(|token| kept.joined.token_digest.as_ref() != Some(&token.digest()));
        return Ok(if is_new { Again::Refused } else { Again::Unanswered });
    }
    let address = Address::of(settings);
    match come_back(&address, before, clock.wall()).await {
        Ok(Back { svid, bundle }) => {
            let state = AgentState {
                key: svid.key.clone(),
                svid: Some(Arc::clone(&svid)),
                bundle: Some(bundle),
                joined: kept.joined.clone(),
            };
            store.save_agent(&state)?;
            tracing::info!(spiffe_id = %svid.spiffe_id, server = %address, "the agent has come back to its server");
            Ok(Again::Taken(Box::new(Attested { state, identity: svid })))
        }
        Err(error @ AgentError::Evicted { .. }) => Err(error),
        Err(error) => {
            let is_away = matches!(error, AgentError::Unreachable { .. } | AgentError::Late { .. })
                || matches!(error, AgentError::Refused { .. }) && worth_another_try(&error);
            tracing::warn!(%error, code = error.code().name(), "the server has not taken the agent back");
            Ok(if is_away { Again::Unanswered } else { Again::Refused })
        }
    }
}

/// What the first contact goes by, with a warning if that is nothing.
fn choose(settings: &AgentSettings, token: &JoinToken) -> Result<Source, AgentError> {
    let source = Source::choose(settings, token)?;
    if source.is_insecure() {
        tracing::warn!(
            "insecure_bootstrap is on: whoever answers at {} is taken for the server; \
             use a token of the form TOKEN.HASH instead",
            Address::of(settings)
        );
    }
    Ok(source)
}

/// The token that is there now, if it is another than `before`. One that cannot be read is none: it may be in the making.
fn newer_token(tokens: &TokenSource, before: &JoinToken) -> Option<JoinToken> {
    let now = tokens.read().ok().flatten()?;
    (now.digest() != before.digest() || now.pin() != before.pin()).then_some(now)
}

fn kept_one(state: &Option<AgentState>) -> bool {
    state.as_ref().is_some_and(|state| state.svid.is_some())
}

/// The key to attest with, on disk before it is used.
fn prepared_key(
    store: &Store,
    state: &mut Option<AgentState>,
    insecure_bootstrap: bool,
) -> Result<PrivateKey, AgentError> {
    if let Some(state) = state {
        return Ok(state.key.clone());
    }
    let key = PrivateKey::generate(KeyType::EcP256).map_err(|error| AgentError::Key(error.to_string()))?;
    let joined = Joined { insecure_bootstrap, token_digest: None };
    store.save_agent(&AgentState { key: key.clone(), svid: None, bundle: None, joined })?;
    Ok(key)
}

async fn once(
    settings: &AgentSettings,
    clock: &Clock,
    source: &Source,
    token: &JoinToken,
    key: PrivateKey,
) -> Result<Attested, AgentError> {
    let address = Address::of(settings);
    let (channel, bundle) = meet(&address, source).await?;
    let svid: Arc<HeldSvid> = node::attest(&address, channel, Proof::Token(token), key.clone(), clock.wall())
        .await
        .map(Arc::new)?;
    tracing::info!(spiffe_id = %svid.spiffe_id, server = %address, "node attestation succeeded");
    let state = AgentState {
        key,
        svid: Some(Arc::clone(&svid)),
        bundle: Some(Arc::new(bundle)),
        joined: Joined { insecure_bootstrap: source.is_insecure(), token_digest: Some(token.digest()) },
    };
    Ok(Attested { state, identity: svid })
}

fn worth_another_try(error: &AgentError) -> bool {
    match error {
        AgentError::Unreachable { .. } | AgentError::Untrusted { .. } | AgentError::Late { .. } => true,
        AgentError::Refused { status, .. } => matches!(
            status.code(),
            Code::Unavailable
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Internal
                | Code::Unknown
                | Code::Aborted
                | Code::Cancelled
        ),
        // The place that has the bundle may be away for a while too; a file that is missing will not appear.
        AgentError::Bootstrap { from, .. } => from.starts_with("https://"),
        _ => false,
    }
}
