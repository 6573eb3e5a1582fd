//! Who is accepted, once a peer has proven who it is.

use std::{collections::BTreeSet, sync::Arc};

use svidecar_id::SpiffeId;

use crate::x509::{VerifiedPeer, X509Error};

/// Decides about a verified peer; a refusal is [`X509Error::IdNotAllowed`].
pub type Authorizer = Arc<dyn Fn(&VerifiedPeer) -> Result<(), X509Error> + Send + Sync>;

/// Accepts every verified peer: for listeners whose policy decides later, per request.
#[must_use]
pub fn any() -> Authorizer {
    Arc::new(|_| Ok(()))
}

/// Accepts exactly these IDs.
#[must_use]
pub fn one_of(ids: impl IntoIterator<Item = SpiffeId>) -> Authorizer {
    let ids = ids.into_iter().collect::<BTreeSet<_>>();
    let expected = match ids.len() {
        0 => "nobody (no ID is configured)".to_owned(),
        _ => ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" or "),
    };
    Arc::new(move |peer| {
        if ids.contains(&peer.id) {
            return Ok(());
        }
        Err(X509Error::IdNotAllowed { id: peer.id.clone(), expected: expected.clone() })
    })
}
