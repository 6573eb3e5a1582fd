//! What the first contact goes by: a hash in the token, a bundle from a file, a bundle from a URL, anyone.
//!
//! Owns their order.

use std::{fmt, path::PathBuf};

use svidecar_config::agent::{AgentSettings, BundleFormat};
use svidecar_id::TrustDomain;

use super::{document, token::JoinToken};
use crate::error::AgentError;

/// What the first contact goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The server has a bootstrap key, or a root, with this SHA-256 (hex), which came with the token.
    Pin(String),
    /// A bundle in a file.
    File(PathBuf, BundleFormat),
    /// A bundle from an `https` URL, by the system's certificate authorities.
    Url(String, BundleFormat),
    /// Whoever answers.
    Anyone,
}

impl Source {
    /// Chooses by settings and token. What an operator wrote down goes before what came with the token.
    ///
    /// # Errors
    /// [`AgentError::NoBootstrap`] when there is nothing to go by.
    pub fn choose(settings: &AgentSettings, token: &JoinToken) -> Result<Self, AgentError> {
        match Self::verified(Self::written_down(settings), token) {
            Some(source) => Ok(source),
            None if settings.insecure_bootstrap => Ok(Self::Anyone),
            None => Err(AgentError::NoBootstrap),
        }
    }

    /// What an operator wrote down of the server.
    #[must_use]
    pub fn written_down(settings: &AgentSettings) -> Option<Self> {
        let format = settings.trust_bundle_format;
        let file = settings.trust_bundle_path.clone().map(|path| Self::File(path, format));
        file.or_else(|| settings.trust_bundle_url.clone().map(|url| Self::Url(url, format)))
    }

    /// The same choice without anyone: what was written down, else the token's pin; none if there is neither.
    #[must_use]
    pub fn verified(written_down: Option<Self>, token: &JoinToken) -> Option<Self> {
        written_down.or_else(|| token.pin().map(|pin| Self::Pin(hex::encode(pin))))
    }

    /// Checks what can be checked without the network.
    ///
    /// # Errors
    /// When a file is missing or is no bundle.
    pub fn check(&self, trust_domain: &TrustDomain) -> Result<(), AgentError> {
        match self {
            Self::File(path, format) => document::read_file(path, *format, trust_domain).map(|_| ()),
            Self::Pin(_) | Self::Url(..) | Self::Anyone => Ok(()),
        }
    }

    /// Whether nothing is verified.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        *self == Self::Anyone
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(_) => f.write_str("the join token that this agent has"),
            Self::File(path, _) => write!(f, "the trust bundle {}", path.display()),
            Self::Url(url, _) => write!(f, "the trust bundle {url}"),
            Self::Anyone => f.write_str("insecure_bootstrap"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AgentSettings {
        AgentSettings::new(TrustDomain::parse("demo.org").unwrap(), "server", "/data")
    }

    #[test]
    fn written_down_trust_goes_before_the_token_and_the_token_before_anyone() {
        let pinned = JoinToken::parse(&format!("secret.{}", "ab".repeat(32))).unwrap();
        let bare = JoinToken::parse("secret").unwrap();
        let mut settings = settings();
        assert!(matches!(Source::choose(&settings, &bare), Err(AgentError::NoBootstrap)));
        settings.insecure_bootstrap = true;
        assert_eq!(Source::choose(&settings, &bare).unwrap(), Source::Anyone);
        assert_eq!(Source::choose(&settings, &pinned).unwrap(), Source::Pin("ab".repeat(32)));
        settings.trust_bundle_path = Some("/bundle.pem".into());
        let file = Source::File("/bundle.pem".into(), BundleFormat::Pem);
        assert_eq!(Source::choose(&settings, &pinned).unwrap(), file);
    }
}
