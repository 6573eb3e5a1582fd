//! Joining by a join token: a secret that is bound to the key that first comes with it.
//!
//! Owns what a token looks like, which agent it makes, and what a use of it means. It must never show a token in a log.

use std::net::IpAddr;

use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::clock;

use super::{
    agent,
    attempt::{Attempt, Attested},
    error::AttestError,
    membership,
};
use crate::{
    ids::{self, IdRuleError},
    peer::Peer,
    state::State,
    store::{Consumed, JOIN_TOKEN, StoreError, TokenUse},
    telemetry,
};

/// The attestor's name.
pub const NAME: &str = JOIN_TOKEN;

/// Longest join token in bytes, with its pin.
pub const MAX_TOKEN_BYTES: usize = 255;

/// The ID of the agent that joins by this token.
///
/// # Errors
/// For a token that cannot be a path segment.
pub fn agent_id(trust_domain: &TrustDomain, token: &str, reusable: bool) -> Result<SpiffeId, IdRuleError> {
    if reusable {
        ids::of_reusable_token(trust_domain, token)
    } else {
        ids::of_join_token(trust_domain, token)
    }
}

/// The beginning of a token: enough to find it again, not enough to use it. A token is a secret until it is bound.
#[must_use]
pub fn glimpse(token: &str) -> String {
    format!("{}…", token.chars().take(8).collect::<String>())
}

/// Binds the token to the key of the request, or finds that it is bound to it, and issues the agent's SVID. Where a
/// reusable token comes with another key, the SVID of before is not active any more.
///
/// # Errors
/// [`AttestError`].
pub(super) async fn attest(state: &State, attempt: Attempt<'_>) -> Result<Attested, AttestError> {
    let (token, peer) = (ids::without_pin(read(attempt.payload)?), attempt.peer);
    state.limits.attest(token, address(peer)).await?;
    let csr = attempt.read_csr()?;
    let token_id = ids::token_digest(token);
    let reusable = state.store.get_token(&token_id).await;
    let reusable = reusable.map_err(refusal)?.is_some_and(|token| token.reusable);
    let id = agent_id(&state.trust_domain, token, reusable).map_err(|_| AttestError::TokenSpent)?;
    let known = agent::known(state, &id, peer).await?;

    let user = TokenUse {
        agent: Some(id.clone()),
        key_fingerprint: hex::encode(svidecar_authority::x509::sha256(&csr.spki_der())),
        from: peer.origin(),
        at: state.clock.unix(),
    };
    let key = user.key_fingerprint.clone();
    let refused = |error: StoreError| {
        telemetry::attested(error.code().name());
        let token = glimpse(token);
        if let Some(leave) = state.strangers.leave_for(peer.source(), clock::monotonic()) {
            let (code, kept_back) = (error.code().name(), leave.kept_back);
            tracing::warn!(token, %peer, key, code, %error, kept_back, "refused a join token");
        }
        refusal(error)
    };
    let consumed = state.store.consume_token(&token_id, user).await.map_err(refused)?;

    let svid = agent::sign(state, &id, &csr)?;
    let mut signed = agent::signed(state, &svid, &csr);
    let stored = match known {
        // The agent repeats what it may already have been answered: whichever answer it uses is good.
        Some(_) if consumed == Consumed::Repeated => {
            state.store.renew_agent(&id, signed).await.map(|agent| agent.generation)
        }
        known => {
            signed.generation = known.map_or(0, |known| known.generation) + 1;
            let generation = signed.generation;
            let agent = agent::record(NAME, id.clone(), signed, Vec::new(), false);
            state.store.put_agent(agent, Some((&token_id, &key))).await.map(|()| generation)
        }
    };
    let generation = stored.map_err(|error| match error {
        StoreError::TokenUnknown | StoreError::TokenEvicted { .. } => refused(error),
        error => AttestError::Store { doing: "failed to create attested agent", error },
    })?;
    telemetry::attested("ok");
    let first_use = consumed == Consumed::First;
    tracing::info!(spiffe_id = %id, %peer, key, serial = svid.serial, first_use, reusable, "agent attested");
    if let Consumed::Replaced(before) = consumed {
        tracing::warn!(
            spiffe_id = %id, %peer, key, key_before = before.key_fingerprint, from_before = before.from,
            used_before = before.at,
            "a reusable join token was used with another key: this agent takes the place of the one before"
        );
    }
    let membership = membership::issue(state, &svid, &csr, generation);
    Ok(Attested { svid, can_reattest: false, membership })
}

fn read(payload: &[u8]) -> Result<&str, AttestError> {
    str::from_utf8(payload)
        .ok()
        .filter(|token| token.len() <= MAX_TOKEN_BYTES)
        .ok_or(AttestError::Payload("the join token is not text of at most 255 bytes"))
}

fn address(peer: &Peer) -> Option<IpAddr> {
    match peer {
        Peer::Remote { address, .. } => Some(address.ip()),
        Peer::Local { .. } => None,
    }
}

/// The caller is not told who used the token first; the log is.
fn refusal(error: StoreError) -> AttestError {
    match error {
        StoreError::TokenUnknown | StoreError::TokenUsed { .. } => AttestError::TokenSpent,
        StoreError::TokenEvicted { at, .. } => AttestError::TokenEvicted(at),
        StoreError::TokenExpired { .. } => AttestError::TokenExpired,
        error => AttestError::Store { doing: "failed to fetch join token", error },
    }
}
