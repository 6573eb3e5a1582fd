//! Node attestation: how the agent gets its own first SVID.
//!
//! Owns the exchange `AttestAgent` by join token. The key is on disk before the token leaves this host: if
//! the answer is lost, the same token with the same key gives the same result.

use std::time::SystemTime;

use svidecar_api::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, agent_client::AgentClient, attest_agent_request,
        attest_agent_response,
    },
    types,
};
use svidecar_authority::{csr, key::PrivateKey};
use tonic::{Code, Status, transport::Channel};

use super::token::JoinToken;
use crate::{
    error::AgentError,
    server::{Address, CALL_TIMEOUT, MAX_MESSAGE, call_error},
    svid::HeldSvid,
};

/// Attests by join token: gives the agent's SVID for `key`.
///
/// # Errors
/// [`AgentError::TokenRefused`] when the server does not accept the token; others when it cannot be asked.
pub async fn attest(
    address: &Address,
    channel: Channel,
    token: &JoinToken,
    key: PrivateKey,
    now: SystemTime,
) -> Result<HeldSvid, AgentError> {
    let what = "AttestAgent";
    let csr = csr::create(&key, None, &[]).map_err(|error| AgentError::Key(error.to_string()))?;
    let params = attest_agent_request::Params {
        data: Some(types::AttestationData {
            r#type: "join_token".into(),
            payload: token.secret().as_bytes().to_vec(),
        }),
        params: Some(AgentX509svidParams { csr }),
    };
    let request = AttestAgentRequest { step: Some(attest_agent_request::Step::Params(params)) };
    let mut client = AgentClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let exchange = async {
        // The stream stays open until the answer is here: some servers take its end for a cancellation.
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        requests.try_send(request).map_err(|_| tonic::Status::internal("the request was not queued"))?;
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let answer = client.attest_agent(stream).await?.into_inner().message().await;
        drop(requests);
        answer
    };
    let answer = match tokio::time::timeout(CALL_TIMEOUT, exchange).await {
        Ok(answer) => answer.map_err(|status| match call_error(address, what, status) {
            AgentError::Refused { status, .. } if is_about_token(&status) => AgentError::TokenRefused(status),
            error => error,
        })?,
        Err(_) => return Err(AgentError::Late { what, after: CALL_TIMEOUT }),
    };
    let bad = |reason: String| AgentError::BadAnswer { what, reason };
    match answer.and_then(|answer| answer.step) {
        Some(attest_agent_response::Step::Result(result)) => {
            let svid = result.svid.ok_or_else(|| bad("it has no SVID".into()))?;
            let svid = HeldSvid::accept(svid, key, None, now).map_err(bad)?;
            if svid.spiffe_id.is_member_of(&address.trust_domain) {
                Ok(svid)
            } else {
                Err(bad(format!("{} is not in `{}`", svid.spiffe_id, address.trust_domain)))
            }
        }
        Some(attest_agent_response::Step::Challenge(_)) => {
            Err(bad("it is a challenge, which a join token does not have".into()))
        }
        None => Err(bad("it is empty".into())),
    }
}

/// By the words that SPIRE's server and ours have for it: the code is the same for a CSR that it does not like.
fn is_about_token(status: &Status) -> bool {
    status.code() == Code::InvalidArgument && status.message().contains("join token")
}
