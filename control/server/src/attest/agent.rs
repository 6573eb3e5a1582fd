//! What every attestor does once it knows whose proof it has: ask whether the agent is banned, sign, and record.

use svidecar_authority::{
    csr::Csr,
    key::key_hash,
    time::plus,
    x509::{SvidParams, X509Svid},
};
use svidecar_id::SpiffeId;
use svidecar_process::clock;

use super::error::AttestError;
use crate::{
    ca::CaError,
    peer::Peer,
    state::State,
    store::{AgentRecord, Selector, Signed, unix_seconds},
    telemetry,
};

/// The agent, if it has attested before.
///
/// # Errors
/// [`AttestError::Banned`]: attesting does not lift a ban.
pub async fn known(state: &State, id: &SpiffeId, peer: &Peer) -> Result<Option<AgentRecord>, AttestError> {
    let known = state.store.get_agent(id).await;
    let known = known.map_err(|error| AttestError::Store { doing: "failed to fetch agent", error })?;
    if known.as_ref().is_some_and(AgentRecord::is_banned) {
        telemetry::attested("agent_banned");
        if let Some(leave) = state.strangers.leave_for(peer.source(), clock::monotonic()) {
            tracing::warn!(spiffe_id = %id, %peer, kept_back = leave.kept_back, "a banned agent tried to attest");
        }
        return Err(AttestError::Banned);
    }
    Ok(known)
}

/// Signs an agent's SVID.
///
/// # Errors
/// [`CaError`] for a key that must not have one, or when the CA has expired.
pub fn sign(state: &State, id: &SpiffeId, csr: &Csr) -> Result<X509Svid, CaError> {
    let params = SvidParams::new(id.clone(), csr.spki_der(), state.agent_ttl);
    let svid = state.sign(|ca, now| ca.sign_x509_svid(&params, now))?;
    telemetry::signed("agent");
    Ok(svid)
}

/// What is remembered of an agent's SVID.
pub fn signed(state: &State, svid: &X509Svid, csr: &Csr) -> Signed {
    Signed {
        serial: svid.serial.clone(),
        expires_at: unix_seconds(svid.not_after),
        key_sha256: key_hash(&csr.spki_der()),
        generation: 0,
        issued_at: state.clock.unix(),
        member_until: unix_seconds(plus(svid.not_after, state.agent_grace)),
    }
}

/// The record of an agent that attested just now.
pub fn record(
    attestor: &str,
    id: SpiffeId,
    signed: Signed,
    selectors: Vec<Selector>,
    can_reattest: bool,
) -> AgentRecord {
    AgentRecord {
        id,
        attestation_type: attestor.to_owned(),
        serial: signed.serial,
        expires_at: signed.expires_at,
        new_serial: String::new(),
        new_expires_at: 0,
        key_sha256: signed.key_sha256,
        new_key_sha256: String::new(),
        generation: signed.generation,
        issued_at: signed.issued_at,
        member_until: signed.member_until,
        can_reattest,
        agent_version: String::new(),
        selectors,
    }
}
