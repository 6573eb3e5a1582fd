//! Why a node does not join. The sentences are SPIRE's: agents and scripts know them.

use svidecar_authority::{
    AuthorityError,
    time::{from_secs, rfc3339},
};

use crate::{ca::CaError, limits::RateLimited, store::StoreError};

/// A refusal as the caller may know it.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// No attestor of that name.
    #[error(
        "error getting node attestor: could not find node attestor type {name:?}; this server attests by {known}"
    )]
    UnknownAttestor {
        /// What was asked for.
        name: String,
        /// What could be.
        known: String,
    },
    /// What was sent cannot be a proof of that kind.
    #[error("failed to attest: {0}")]
    Payload(&'static str),
    /// Too many attempts.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The request for a certificate cannot be read.
    #[error("failed to parse CSR: {0}")]
    Csr(#[source] AuthorityError),
    /// The agent was banned.
    #[error("failed to attest: agent is banned")]
    Banned,
    /// The agent was evicted. Who did it, the log knows.
    #[error("failed to attest: the agent was evicted or banned at {}", rfc3339(from_secs(u64::try_from(*.0).unwrap_or_default())))]
    Evicted(i64),
    /// The agent has had another key since.
    #[error("failed to attest: the agent has had another key since this one")]
    Superseded,
    /// Too long after the end of the agent's SVID.
    #[error("failed to attest: the agent's SVID ended too long ago (`agent_grace` of the server)")]
    MembershipEnded,
    /// Nothing was proven by the handshake.
    #[error("failed to attest: the connection does not prove that this was an agent of ours")]
    NoMembership,
    /// No such join token, or it is bound to another key. The caller is not told which, nor who was first.
    #[error("failed to attest: join token does not exist or has already been used")]
    TokenSpent,
    /// The agent that it made was evicted. Who did it, the log knows.
    #[error("failed to attest: the agent of this join token was evicted or banned at {}", rfc3339(from_secs(u64::try_from(*.0).unwrap_or_default())))]
    TokenEvicted(i64),
    /// The join token's life is over.
    #[error("join token expired")]
    TokenExpired,
    /// The store failed, or refused.
    #[error("{doing}: {error}")]
    Store {
        /// What could not be done.
        doing: &'static str,
        /// Why.
        error: StoreError,
    },
    /// The CA failed, or refused.
    #[error(transparent)]
    Sign(#[from] CaError),
}
