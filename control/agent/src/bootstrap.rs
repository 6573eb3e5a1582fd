//! The first contact: which server to believe before there is a bundle.
//!
//! Owns the four ways (a hash in the token, a bundle from a file, a bundle from a URL, anyone) and their order.
//! The result of each is a bundle of the trust domain; from then on only that is believed. It must never
//! send a join token to a server that was not verified, except when told so by `insecure_bootstrap`.

mod url;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use svidecar_authority::{
    CertificateDer,
    bundle::{Bundle, BundleSet, root_hash},
    pem::MAX_PEM_BYTES,
};
use svidecar_config::agent::{AgentSettings, BundleFormat};
use svidecar_id::TrustDomain;
use tonic::transport::Channel;

use crate::{
    attest::node::JoinToken,
    error::AgentError,
    server::{Address, Trust, dial, get_bundle},
    state::file::read_bounded,
};

/// What the first contact goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The server has a root with this SHA-256 (hex), which came with the token.
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
            Self::File(path, format) => read_file(path, *format, trust_domain).map(|_| ()),
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

/// Meets the server: a channel to it, and the trust domain's bundle as it says.
///
/// # Errors
/// When the server cannot be reached or is not the one that `source` describes.
pub async fn meet(address: &Address, source: &Source) -> Result<(Channel, Bundle), AgentError> {
    match named(address, source).await? {
        Some(first) => verify(address, first).await,
        None => ask(address, &Trust::Anyone).await,
    }
}

/// Meets a server that took the place of the one whose roots are `known`. Only another root can prove that it did: a
/// server that has none but these is the one of before, whoever stands in front of it. None when `source` names no other.
///
/// # Errors
/// As [`meet`].
pub async fn meet_another(
    address: &Address,
    source: &Source,
    known: &Bundle,
) -> Result<Option<(Channel, Bundle)>, AgentError> {
    let is_known = |root: &CertificateDer<'_>| known.x509_authorities.iter().any(|one| one == root);
    if let Source::Pin(pin) = source
        && known.x509_authorities.iter().any(|root| root_hash(root) == *pin)
    {
        return Ok(None);
    }
    let Some(mut first) = named(address, source).await? else { return Ok(None) };
    first.x509_authorities.retain(|root| !is_known(root));
    if first.x509_authorities.is_empty() {
        return Ok(None);
    }
    verify(address, first).await.map(Some)
}

/// The roots that `source` names; none for anyone.
async fn named(address: &Address, source: &Source) -> Result<Option<Bundle>, AgentError> {
    match source {
        Source::Pin(pin) => pinned_root(address, pin).await.map(Some),
        Source::File(path, format) => read_file(path, *format, &address.trust_domain).map(Some),
        Source::Url(url, format) => url::fetch(url, *format, &address.trust_domain).await.map(Some),
        Source::Anyone => Ok(None),
    }
}

async fn verify(address: &Address, first: Bundle) -> Result<(Channel, Bundle), AgentError> {
    ask(address, &Trust::Bundle(Arc::new(BundleSet::of(first)))).await
}

async fn ask(address: &Address, trust: &Trust) -> Result<(Channel, Bundle), AgentError> {
    let channel = dial(address, trust).await?;
    let bundle = get_bundle(address, channel.clone()).await?;
    Ok((channel, bundle))
}

/// Gets the root that a token names. The server is asked for its bundle over a connection that proves
/// nothing; of the answer only the certificate with the right hash is used, which is proof enough.
async fn pinned_root(address: &Address, pin: &str) -> Result<Bundle, AgentError> {
    let offered = get_bundle(address, dial(address, &Trust::Anyone).await?).await?;
    let root = offered.x509_authorities.iter().find(|root| root_hash(root) == pin);
    let Some(root) = root else {
        return Err(AgentError::PinMismatch {
            server: address.to_string(),
            roots: offered.x509_authorities.len(),
            pin: pin.to_owned(),
        });
    };
    Ok(Bundle { x509_authorities: vec![root.clone()], ..Bundle::empty(address.trust_domain.clone()) })
}

fn read_file(path: &Path, format: BundleFormat, trust_domain: &TrustDomain) -> Result<Bundle, AgentError> {
    let bytes = read_bounded(path, MAX_PEM_BYTES as u64)?;
    parse(&bytes, format, trust_domain)
        .map_err(|reason| AgentError::Bootstrap { from: path.display().to_string(), reason })
}

fn parse(bytes: &[u8], format: BundleFormat, trust_domain: &TrustDomain) -> Result<Bundle, String> {
    let bundle = match format {
        BundleFormat::Pem => Bundle::from_pem(trust_domain.clone(), bytes),
        BundleFormat::Spiffe => Bundle::from_spiffe_json(trust_domain.clone(), bytes),
    }
    .map_err(|error| error.to_string())?;
    if bundle.x509_authorities.is_empty() {
        return Err("it has no X.509 authority".into());
    }
    Ok(bundle)
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

    #[test]
    fn a_bundle_without_authorities_starts_no_trust() {
        let trust_domain = TrustDomain::parse("demo.org").unwrap();
        assert!(parse(br#"{"keys":[]}"#, BundleFormat::Spiffe, &trust_domain).is_err());
        assert!(parse(b"", BundleFormat::Pem, &trust_domain).is_err());
    }
}
