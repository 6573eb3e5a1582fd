//! Coming back: an agent proves by the handshake that it has a key that this server signed for, although its SVID has ended,
//! or the authority that signed it is not known here any more.
//!
//! Owns what that is worth. The certificate that proves it comes from a bootstrap key, together with each SVID of the agent, and
//! is good for that long after the SVID as the settings say. What the store knows decides: a ban and a deletion are final,
//! and an agent that the store was restored without is ours all the same.

use svidecar_authority::{
    CertificateDer,
    csr::Csr,
    time::{plus, rfc3339},
    x509::X509Svid,
};

use super::{
    agent,
    attempt::{Attempt, Attested},
    error::AttestError,
};
use crate::{
    peer::{Membership, Peer},
    state::State,
    store::{Member, StoreError, unix_seconds},
    telemetry,
};

/// The attestor's name.
pub const NAME: &str = svidecar_api::bootstrap::MEMBERSHIP_ATTESTOR;

/// What lets the agent with this SVID come back, leaf first: with it goes the certificate of the key that has signed it, so that
/// the agent knows that key from then on. `None`, and a line in the log, where it cannot be made.
pub fn issue(
    state: &State,
    svid: &X509Svid,
    csr: &Csr,
    generation: i64,
) -> Option<Vec<CertificateDer<'static>>> {
    let until = plus(svid.not_after, state.agent_grace);
    let issued = state.ca.bootstrap().sign_membership(
        &svid.id,
        csr.spki_der(),
        u64::try_from(generation).unwrap_or_default(),
        until,
        state.clock.now(),
    );
    issued
        .inspect_err(|error| {
            let code = error.code().name();
            tracing::error!(spiffe_id = %svid.id, code, %error, "the agent could not come back after an outage");
        })
        .ok()
}

/// Renews the agent that the handshake has proven to be there.
///
/// # Errors
/// [`AttestError`].
pub(super) async fn attest(state: &State, attempt: Attempt<'_>) -> Result<Attested, AttestError> {
    let peer = attempt.peer;
    let Peer::Remote { address, membership: Some(membership), .. } = peer else {
        return Err(AttestError::NoMembership);
    };
    let generation = membership.generation();
    let Membership { facts, key_sha256 } = membership.as_ref();
    let id = &facts.id;
    state.limits.attest(id.as_str(), Some(address.ip())).await?;
    if facts.not_after < state.clock.now() {
        telemetry::attested("agent_expired");
        tracing::warn!(spiffe_id = %id, %peer, ended_at = rfc3339(facts.not_after), "an agent came back too late");
        return Err(AttestError::MembershipEnded);
    }
    let csr = attempt.read_csr()?;
    let svid = agent::sign(state, id, &csr)?;
    let member = Member {
        id: id.clone(),
        key_sha256: key_sha256.clone(),
        generation,
        issued_at: unix_seconds(facts.issued_at()),
        serial: facts.serial.clone(),
        from: peer.origin(),
    };
    let back = state.store.bring_agent_back(member, agent::signed(state, &svid, &csr)).await;
    let back = back.map_err(|error| {
        telemetry::attested(error.code().name());
        tracing::warn!(spiffe_id = %id, %peer, code = error.code().name(), %error, "an agent may not come back");
        match error {
            StoreError::AgentBanned { .. } => AttestError::Banned,
            StoreError::AgentEvicted { at, .. } => AttestError::Evicted(at),
            StoreError::AgentSuperseded { .. } => AttestError::Superseded,
            error => AttestError::Store { doing: "failed to renew agent", error },
        }
    })?;
    telemetry::attested("ok");
    tracing::info!(spiffe_id = %id, %peer, serial = svid.serial, "agent has come back");
    let membership = issue(state, &svid, &csr, back.generation);
    Ok(Attested { svid, can_reattest: false, membership })
}
