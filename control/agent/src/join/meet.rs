//! The first contact: which server to believe before there is a bundle.
//!
//! Owns how each [`Source`] is made a bundle of the trust domain; from then on only that is believed. It must never
//! let a join token go to a server that was not verified, except when told so by `insecure_bootstrap`.

use std::sync::Arc;

use svidecar_authority::{
    CertificateDer,
    bundle::{Bundle, BundleSet, root_hash},
};
use tonic::transport::Channel;

use super::{document, source::Source, url};
use crate::{
    error::AgentError,
    server::{Address, Trust, dial, get_bundle},
};

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
        Source::Pin(pin) => pinned(address, pin).await.map(Some),
        Source::File(path, format) => document::read_file(path, *format, &address.trust_domain).map(Some),
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

/// What the hash in a token vouches for. It is that of the server's bootstrap key: the server proves that it has that key,
/// and hands over its bundle. Or, in a token that was made before there were such keys, it is that of a root. What is
/// asked for second proves nothing without a root of that very hash, so that whoever keeps the first from succeeding has won
/// nothing.
async fn pinned(address: &Address, pin: &str) -> Result<Bundle, AgentError> {
    match ask(address, &Trust::Key(pin.to_owned())).await {
        Ok((_, bundle)) if bundle.x509_authorities.is_empty() => {
            Err(AgentError::BadAnswer { what: "GetBundle", reason: "it has no X.509 authority".to_owned() })
        }
        Ok((_, bundle)) => Ok(bundle),
        Err(AgentError::Untrusted { .. }) => pinned_root(address, pin).await,
        Err(error) => Err(error),
    }
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
