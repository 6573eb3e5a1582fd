//! Join tokens: what they say, and where they are.

use std::path::{Path, PathBuf};

use svidecar_authority::x509::sha256;
use svidecar_config::{agent::AgentSettings, secret::Secret};
use svidecar_process::private::check_handed;
use zeroize::Zeroizing;

use crate::{error::AgentError, state::file::read_bounded};

/// A file with a token is small.
const MAX_TOKEN_BYTES: usize = 4096;

/// A join token, with the hash that names the server if it was made by ours. No `Debug`.
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
    /// When the file cannot be read, is not ours alone, or has no token.
    pub fn read(path: &Path) -> Result<Self, AgentError> {
        check_handed(path)?;
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

    /// What is sent to the server, and to nobody else.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// SHA-256 of the server's bootstrap key, or of the DER of a root that it has.
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
