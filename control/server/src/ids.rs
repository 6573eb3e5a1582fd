//! The SPIFFE IDs that SPIRE reserves, and the rules for where each may stand.
//!
//! Owns the reserved namespace `/spire`. The sentences are SPIRE's, because scripts look for them.

use svidecar_api::{BadId, spire::api::types::Spiffeid};
use svidecar_id::{SpiffeId, TrustDomain};

const SERVER_PATH: &str = "/spire/server";
const AGENT_PREFIX: &str = "/spire/agent/";
const TOKEN_PREFIX: &str = "/spire/agent/join_token/";

/// Length of the hash that a pinned token ends in: SHA-256 in hex.
const PIN_LENGTH: usize = 64;

/// Why an ID may not stand where it does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdRuleError {
    /// Not a SPIFFE ID at all.
    #[error(transparent)]
    Bad(#[from] BadId),
    /// Of another trust domain.
    #[error("\"{id}\" is not a member of trust domain \"{trust_domain}\"")]
    Foreign {
        /// The ID.
        id: SpiffeId,
        /// Ours.
        trust_domain: TrustDomain,
    },
    /// The ID of the trust domain itself.
    #[error("\"{id}\" is not {wanted} in trust domain \"{trust_domain}\"; path is empty")]
    NoPath {
        /// The ID.
        id: SpiffeId,
        /// What was expected, with its article.
        wanted: &'static str,
        /// Ours.
        trust_domain: TrustDomain,
    },
    /// In the reserved namespace, or not in it.
    #[error("\"{id}\" is not {wanted} in trust domain \"{trust_domain}\"; path is {place}")]
    Namespace {
        /// The ID.
        id: SpiffeId,
        /// What was expected, with its article.
        wanted: &'static str,
        /// What is wrong with the path.
        place: &'static str,
        /// Ours.
        trust_domain: TrustDomain,
    },
}

/// The server's own ID, `spiffe://TD/spire/server`. `None` only for a trust domain name so long that no ID fits.
#[must_use]
pub fn server(trust_domain: &TrustDomain) -> Option<SpiffeId> {
    SpiffeId::new(trust_domain, SERVER_PATH).ok()
}

/// Whether an ID is in the place of agents' IDs.
#[must_use]
pub fn is_agent(id: &SpiffeId) -> bool {
    id.path().starts_with(AGENT_PREFIX)
}

/// The ID of the agent that joins with this token.
///
/// # Errors
/// [`IdRuleError::Bad`] for a token that cannot be a path segment.
pub fn of_join_token(trust_domain: &TrustDomain, token: &str) -> Result<SpiffeId, IdRuleError> {
    let field = Spiffeid {
        trust_domain: trust_domain.as_str().to_owned(),
        path: format!("{TOKEN_PREFIX}{}", without_pin(token)),
    };
    Ok(SpiffeId::try_from(&field)?)
}

/// The ID of the agent that joins with this reusable token. That token stays a secret, so the ID, which logs and listings
/// show, has only its [`token_digest`].
///
/// # Errors
/// As [`of_join_token`].
pub fn of_reusable_token(trust_domain: &TrustDomain, token: &str) -> Result<SpiffeId, IdRuleError> {
    of_join_token(trust_domain, &token_digest(token))
}

/// What names a token without being it: half of its SHA-256, in hex.
#[must_use]
pub fn token_digest(token: &str) -> String {
    let digest = svidecar_authority::x509::sha256(without_pin(token).as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The token itself: what comes before `.HASH` in a token that is pinned to a root, or all of it.
#[must_use]
pub fn without_pin(token: &str) -> &str {
    match token.rsplit_once('.') {
        Some((bare, pin)) if pin.len() == PIN_LENGTH && pin.bytes().all(|b| b.is_ascii_hexdigit()) => bare,
        _ => token,
    }
}

/// Reads the ID of a member of the trust domain, of any kind. An agent's ID that was made from a pinned token,
/// as scripts do that paste `token generate`'s output into `-parentID`, is read as the agent's.
///
/// # Errors
/// [`IdRuleError`].
pub fn member(trust_domain: &TrustDomain, field: Option<&Spiffeid>) -> Result<SpiffeId, IdRuleError> {
    let id = in_domain(trust_domain, field, "a member")?;
    match id.path().strip_prefix(TOKEN_PREFIX) {
        Some(token) => of_join_token(trust_domain, token),
        None => Ok(id),
    }
}

/// Reads the ID of an agent.
///
/// # Errors
/// [`IdRuleError`].
pub fn agent(trust_domain: &TrustDomain, field: Option<&Spiffeid>) -> Result<SpiffeId, IdRuleError> {
    let id = in_domain(trust_domain, field, "an agent")?;
    if !is_agent(&id) {
        let place = "not in the agent namespace";
        return Err(IdRuleError::Namespace {
            id,
            wanted: "an agent",
            place,
            trust_domain: trust_domain.clone(),
        });
    }
    member(trust_domain, field)
}

/// Reads the ID of a workload: any but the reserved ones.
///
/// # Errors
/// [`IdRuleError`].
pub fn workload(trust_domain: &TrustDomain, field: Option<&Spiffeid>) -> Result<SpiffeId, IdRuleError> {
    check_workload(trust_domain, in_domain(trust_domain, field, "a workload")?)
}

/// Checks that an ID is a workload's.
///
/// # Errors
/// [`IdRuleError`].
pub fn check_workload(trust_domain: &TrustDomain, id: SpiffeId) -> Result<SpiffeId, IdRuleError> {
    let id = check_domain(trust_domain, id, "a workload")?;
    if id.path() == "/spire" || id.path().starts_with("/spire/") {
        let place = "in the reserved namespace";
        return Err(IdRuleError::Namespace {
            id,
            wanted: "a workload",
            place,
            trust_domain: trust_domain.clone(),
        });
    }
    Ok(id)
}

fn in_domain(
    trust_domain: &TrustDomain,
    field: Option<&Spiffeid>,
    wanted: &'static str,
) -> Result<SpiffeId, IdRuleError> {
    check_domain(trust_domain, Spiffeid::required(field)?, wanted)
}

fn check_domain(
    trust_domain: &TrustDomain,
    id: SpiffeId,
    wanted: &'static str,
) -> Result<SpiffeId, IdRuleError> {
    let trust_domain = trust_domain.clone();
    if !id.is_member_of(&trust_domain) {
        return Err(IdRuleError::Foreign { id, trust_domain });
    }
    if id.path().is_empty() {
        return Err(IdRuleError::NoPath { id, wanted, trust_domain });
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn field(path: &str) -> Option<Spiffeid> {
        Some(Spiffeid { trust_domain: "demo.org".to_owned(), path: path.to_owned() })
    }

    #[test]
    fn each_kind_has_its_place() {
        let td = TrustDomain::parse("demo.org").unwrap();
        for (path, is_member, is_agent, is_workload) in [
            ("", false, false, false),
            ("/shop", true, false, true),
            ("/spire", true, false, false),
            ("/spires", true, false, true),
            ("/spire/server", true, false, false),
            ("/spire/agent/x509pop/abc", true, true, false),
        ] {
            let field = field(path);
            assert_eq!(member(&td, field.as_ref()).is_ok(), is_member, "{path}");
            assert_eq!(agent(&td, field.as_ref()).is_ok(), is_agent, "{path}");
            assert_eq!(workload(&td, field.as_ref()).is_ok(), is_workload, "{path}");
        }
    }

    #[test]
    fn the_sentences_are_spires() {
        let td = TrustDomain::parse("demo.org").unwrap();
        let say = |result: Result<SpiffeId, IdRuleError>| result.unwrap_err().to_string();
        assert_eq!(say(workload(&td, None)), "request must specify SPIFFE ID");
        assert_eq!(
            say(workload(&td, field("/spire/server").as_ref())),
            "\"spiffe://demo.org/spire/server\" is not a workload in trust domain \"demo.org\"; path is in the reserved namespace"
        );
        let foreign = Spiffeid { trust_domain: "other.org".to_owned(), path: "/x".to_owned() };
        assert_eq!(
            say(member(&td, Some(&foreign))),
            "\"spiffe://other.org/x\" is not a member of trust domain \"demo.org\""
        );
    }

    #[test]
    fn a_pinned_token_names_the_same_agent() {
        let td = TrustDomain::parse("demo.org").unwrap();
        let pin = "0f".repeat(32);
        let bare = of_join_token(&td, "abc-1").unwrap();
        assert_eq!(bare.path(), "/spire/agent/join_token/abc-1");
        assert_eq!(of_join_token(&td, &format!("abc-1.{pin}")).unwrap(), bare);
        let pasted = field(&format!("/spire/agent/join_token/abc-1.{pin}"));
        assert_eq!(member(&td, pasted.as_ref()).unwrap(), bare);
        assert_eq!(agent(&td, pasted.as_ref()).unwrap(), bare);
        assert_eq!(without_pin("a.b"), "a.b");
        assert!(of_join_token(&td, "a/../b").is_err());
    }
}
