//! Node attestation: how the agent gets its own first SVID.
//!
//! Owns the exchange `AttestAgent`, by join token or by a key that the server signed for once. The key is on disk before a token
//! leaves this host: if the answer is lost, the same token with the same key gives the same result.

use std::time::SystemTime;

use svidecar_api::{
    bootstrap::{self, MEMBERSHIP_ATTESTOR},
    spire::api::{
        server::agent::v1::{
            AgentX509svidParams, AttestAgentRequest, agent_client::AgentClient, attest_agent_request,
            attest_agent_response,
        },
        types,
    },
    status::{Reason, permission_denied_reason},
};
use svidecar_authority::{csr, key::PrivateKey};
use svidecar_id::SpiffeId;
use tonic::{Code, Status, transport::Channel};

use super::token::JoinToken;
use crate::{
    error::AgentError,
    server::{Address, CALL_TIMEOUT, MAX_MESSAGE, call_error, doubt},
    svid::HeldSvid,
};

/// What an agent proves itself by.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// A token.
    Token(&'a JoinToken),
    /// What the handshake of the channel has shown: that it was the agent of this ID.
    Membership(&'a SpiffeId),
}

impl Proof<'_> {
    fn data(self) -> types::AttestationData {
        let (kind, payload) = match self {
            Self::Token(token) => ("join_token", token.secret().as_bytes()),
            // All is said by the handshake; SPIRE's message wants something.
            Self::Membership(_) => (MEMBERSHIP_ATTESTOR, &b"1"[..]),
        };
        types::AttestationData { r#type: kind.to_owned(), payload: payload.to_vec() }
    }

    /// What the server's refusal means.
    fn refused(self, address: &Address, status: Status) -> AgentError {
        let error = match self {
            Self::Token(_) => call_error(address, WHAT, status),
            Self::Membership(id) => match permission_denied_reason(&status) {
                Some(Reason::AgentBanned) => AgentError::Evicted { id: id.clone(), reason: "it is banned" },
                Some(Reason::AgentNotAttested) => {
                    AgentError::Evicted { id: id.clone(), reason: "it was evicted" }
                }
                Some(Reason::AgentExpired) => AgentError::Expired,
                Some(reason) => AgentError::Doubted {
                    reason: doubt(reason).unwrap_or_else(|| reason.as_str_name()).to_owned(),
                    by_server: true,
                },
                None => call_error(address, WHAT, status),
            },
        };
        match error {
            AgentError::Refused { status, .. } if is_about_token(&status) => AgentError::TokenRefused(status),
            error => error,
        }
    }
}

const WHAT: &str = "AttestAgent";

/// Attests: gives the agent's SVID for `key`.
///
/// # Errors
/// [`AgentError::TokenRefused`] when the server does not accept the token, [`AgentError::Evicted`], [`AgentError::Doubted`] or
/// [`AgentError::Expired`] when it does not take the agent back; others when it cannot be asked.
pub async fn attest(
    address: &Address,
    channel: Channel,
    proof: Proof<'_>,
    key: PrivateKey,
    now: SystemTime,
) -> Result<HeldSvid, AgentError> {
    let what = WHAT;
    let csr = csr::create(&key, None, &[]).map_err(|error| AgentError::Key(error.to_string()))?;
    let params =
        attest_agent_request::Params { data: Some(proof.data()), params: Some(AgentX509svidParams { csr }) };
    let request = AttestAgentRequest { step: Some(attest_agent_request::Step::Params(params)) };
    let mut client = AgentClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let exchange = async {
        // The stream stays open until the answer is here: some servers take its end for a cancellation.
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        requests.try_send(request).map_err(|_| tonic::Status::internal("the request was not queued"))?;
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let response = client.attest_agent(stream).await?;
        let membership = bootstrap::membership(response.metadata());
        let answer = response.into_inner().message().await?;
        drop(requests);
        Ok::<_, Status>((answer, membership))
    };
    let (answer, membership) = match tokio::time::timeout(CALL_TIMEOUT, exchange).await {
        Ok(answer) => answer.map_err(|status| proof.refused(address, status))?,
        Err(_) => return Err(AgentError::Late { what, after: CALL_TIMEOUT }),
    };
    let bad = |reason: String| AgentError::BadAnswer { what, reason };
    match answer.and_then(|answer| answer.step) {
        Some(attest_agent_response::Step::Result(result)) => {
            let svid = result.svid.ok_or_else(|| bad("it has no SVID".into()))?;
            let expected = match proof {
                Proof::Token(_) => None,
                Proof::Membership(id) => Some(id),
            };
            let svid = HeldSvid::accept(svid, key, expected, now).map_err(bad)?.with_membership(membership);
            if svid.spiffe_id.is_member_of(&address.trust_domain) {
                Ok(svid)
            } else {
                Err(bad(format!("{} is not in `{}`", svid.spiffe_id, address.trust_domain)))
            }
        }
        Some(attest_agent_response::Step::Challenge(_)) => {
            Err(bad("it is a challenge, which was not to be".into()))
        }
        None => Err(bad("it is empty".into())),
    }
}

/// By the words that SPIRE's server and ours have for it: the code is the same for a CSR that it does not like.
fn is_about_token(status: &Status) -> bool {
    status.code() == Code::InvalidArgument && status.message().contains("join token")
}
