//! Node attestation: how the agent gets its own first SVID.
//!
//! Owns the exchange `AttestAgent` by join token. The key is on disk before the token leaves this host: if
//! the answer is lost, the same token with the same key gives the same result.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use svidecar_api::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, agent_client::AgentClient, attest_agent_request,
        attest_agent_response,
    },
    types,
};
use svidecar_authority::{csr, key::PrivateKey, x509::sha256};
use svidecar_config::{agent::AgentSettings, secret::Secret};
use tonic::{Code, Status, transport::Channel};
use zeroize::Zeroizing;

use crate::{
    error::AgentError,
    server::{Address, CALL_TIMEOUT, MAX_MESSAGE, call_error},
    state::file::read_bounded,
    svid::HeldSvid,
};

/// A file with a token is small.
const MAX_TOKEN_BYTES: usize = 4096;

/// A join token, with the hash of the server's root if it was made by our server. No `Debug`.
pub struct JoinToken {
    secret: Zeroizing<String>,
    pin: Option<[u8; 32]>,
}

impl JoinToken {
    /// Reads `TOKEN` or `TOKEN.HASH`.
    ///
    /// # Errors
    /// [`AgentError::BadJoinToken`] when it is neither.
    pub fn parse(text: &str) -> Result<Self, AgentError> {
        let text = text.trim();
        let bad = || AgentError::BadJoinToken { shown: text.chars().take(4).collect() };
        if text.is_empty() || text.len() > MAX_TOKEN_BYTES || text.contains(char::is_whitespace) {
            return Err(bad());
        }
        match text.split_once('.') {
            None => Ok(Self { secret: Zeroizing::new(text.to_owned()), pin: None }),
            Some((secret, hash)) => {
                let pin = hex::decode(hash).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(bad)?;
                Ok(Self { secret: Zeroizing::new(secret.to_owned()), pin: Some(pin) })
            }
        }
    }

    /// Reads a token from a file; white space around it does not matter.
    ///
    /// # Errors
    /// When the file cannot be read, or has no token.
    pub fn read(path: &Path) -> Result<Self, AgentError> {
        let bytes = read_bounded(path, MAX_TOKEN_BYTES as u64)?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| AgentError::BadJoinToken { shown: String::new() })?;
        Self::parse(text)
    }

    /// Names the token without being it: SHA-256 of the secret, in hex.
    #[must_use]
    pub fn digest(&self) -> String {
        hex::encode(sha256(self.secret.as_bytes()))
    }

    /// SHA-256 of the DER of a root that the server must have.
    #[must_use]
    pub fn pin(&self) -> Option<&[u8; 32]> {
        self.pin.as_ref()
    }
}

/// Where a join token is, if the settings name one. A file is read each time: it may have been rewritten.
#[derive(Debug, Clone, Default)]
pub struct TokenSource {
    token: Option<Secret>,
    file: Option<PathBuf>,
}

impl TokenSource {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &AgentSettings) -> Self {
        Self { token: settings.join_token.clone(), file: settings.join_token_file.clone() }
    }

    /// The token of now; none if none is named, or the setting is empty, as platforms give a secret that is not set.
    ///
    /// # Errors
    /// As [`JoinToken::read`].
    pub fn read(&self) -> Result<Option<JoinToken>, AgentError> {
        let given = self.token.as_ref().filter(|token| !token.expose().trim().is_empty());
        match (given, &self.file) {
            (Some(token), _) => JoinToken::parse(token.expose()).map(Some),
            (None, Some(path)) => JoinToken::read(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

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
            payload: token.secret.as_bytes().to_vec(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_with_and_without_a_pin_are_read() {
        let bare = JoinToken::parse(" 0ab1c2d3-0000-4000-8000-000000000000\n").unwrap();
        assert!(bare.pin().is_none());
        assert_eq!(bare.secret.as_str(), "0ab1c2d3-0000-4000-8000-000000000000");
        let pinned = JoinToken::parse(&format!("secret.{}", "ab".repeat(32))).unwrap();
        assert_eq!(pinned.pin(), Some(&[0xab; 32]));
        assert_eq!(pinned.secret.as_str(), "secret");
    }

    #[test]
    fn an_empty_secret_is_none_and_a_file_is_read_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = Some(Secret::from(" \n".to_owned()));
        let source = TokenSource { token: token.clone(), file: None };
        assert!(source.read().unwrap().is_none());
        let source = TokenSource { token, file: Some(file.path().to_owned()) };
        for secret in ["one", "another"] {
            std::fs::write(file.path(), secret).unwrap();
            assert_eq!(source.read().unwrap().unwrap().digest(), JoinToken::parse(secret).unwrap().digest());
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        for text in ["", "   ", "a b", "secret.abc", "secret.zz"] {
            let Err(error) = JoinToken::parse(text) else { panic!("{text} was accepted") };
            assert!(matches!(error, AgentError::BadJoinToken { .. }));
            assert!(!error.to_string().contains("secret."), "{error}");
        }
    }
}
