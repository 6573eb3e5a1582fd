//! Joining: how a node proves what it is, and so becomes an agent.
//!
//! Owns the kinds of proof, each in a file of its own, and what they share: the ban, the SVID, the record of the agent.
//! It must never know how a proof was sent, and never tell a caller more than that it was refused; the log is told why.

mod agent;
mod attempt;
mod error;
pub mod join_token;
pub mod membership;

pub use agent::{sign, signed};
pub use attempt::{Attempt, Attested};
pub use error::AttestError;

use crate::state::State;

/// The ways in which a node can prove what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attestor {
    /// By a secret that an administrator made for it.
    JoinToken,
    /// By a key that this server signed for once.
    Membership,
}

impl Attestor {
    /// All that this server knows.
    const ALL: [Self; 2] = [Self::JoinToken, Self::Membership];

    /// Its name in the API, in records, and in the IDs of its agents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JoinToken => join_token::NAME,
            Self::Membership => membership::NAME,
        }
    }

    /// The attestor of that name.
    ///
    /// # Errors
    /// [`AttestError::UnknownAttestor`], with the names that there are.
    pub fn named(name: &str) -> Result<Self, AttestError> {
        Self::ALL.into_iter().find(|attestor| attestor.name() == name).ok_or_else(|| {
            AttestError::UnknownAttestor {
                name: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            }
        })
    }

    /// Makes the node an agent, if it proves what it is.
    ///
    /// # Errors
    /// [`AttestError`]; then it is none.
    pub async fn attest(self, state: &State, attempt: Attempt<'_>) -> Result<Attested, AttestError> {
        match self {
            Self::JoinToken => join_token::attest(state, attempt).await,
            Self::Membership => membership::attest(state, attempt).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_attestor_is_found_by_its_name_and_another_is_refused_with_those_there_are() {
        for attestor in Attestor::ALL {
            assert_eq!(Attestor::named(attestor.name()).unwrap(), attestor);
        }
        assert_eq!(
            Attestor::named("x509pop").unwrap_err().to_string(),
            "error getting node attestor: could not find node attestor type \"x509pop\"; this server attests by join_token, svidecar_membership"
        );
    }
}
