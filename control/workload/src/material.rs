//! From the messages of the Workload API to identities and bundles. Pure; each message is the whole state (H13), so
//! nothing of an earlier one survives (I9).

use std::{collections::HashMap, sync::Arc};

use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_api::workload::{X509svid, X509svidResponse};
use svidecar_authority::{
    bundle::{Bundle, BundleSet},
    tls,
    x509::{
        X509Error,
        inspect::CertInfo,
        verify::{claimed_id, verify_peer},
    },
};
use svidecar_id::{SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use crate::identity::Svid;

/// More identities than this for one process mean a mistake in the registration.
const MAX_SVIDS: usize = 256;

/// Why a message is discarded (I11).
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A message without an identity.
    #[error("the agent's answer holds no identity")]
    NoSvid,
    /// More identities than one process can mean.
    #[error("the agent's answer holds {0} identities; at most {MAX_SVIDS} are taken")]
    TooMany(usize),
    /// A field that must be set is not.
    #[error("the agent's answer for `{id}` lacks `{field}`")]
    Missing {
        /// The ID, as far as it is there.
        id: String,
        /// The field of the message.
        field: &'static str,
    },
    /// Something that does not parse or fit.
    #[error("the agent's answer for `{id}` cannot be used: {reason}")]
    Unusable {
        /// The ID or trust domain.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// What every peer would find that has the bundle of the SVID.
    #[error(
        "the agent gives an SVID that does not verify against the bundle that it gives with it: {0}; it is not used. Compare this host's clock with that of the agent's server, and look at the agent's log"
    )]
    NotVerified(Box<X509Error>),
    /// None of the identities is the one to present.
    #[error(
        "the agent gives this process {given}, but the settings want {wanted}; correct the settings or the registration entry"
    )]
    NotGiven {
        /// The IDs that there are.
        given: String,
        /// The wish.
        wanted: String,
    },
}

/// Which of several identities to present; a wish that is not met is named as its setting is.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Exactly this ID.
    pub spiffe_id: Option<SpiffeId>,
    /// The one with this hint.
    pub hint: Option<String>,
    /// Only members of this trust domain.
    pub trust_domain: Option<TrustDomain>,
}

/// Identities and bundles of one message.
pub(crate) struct Material {
    /// In the agent's order.
    pub(crate) svids: Vec<Arc<Svid>>,
    /// Of the identities' own trust domains and the federated ones.
    pub(crate) bundles: BundleSet,
}

/// The identities of a message that may be used.
pub(crate) struct Usable {
    /// The one to present.
    pub(crate) chosen: Arc<Svid>,
    /// It and the others, in the agent's order.
    pub(crate) all: Vec<Arc<Svid>>,
    /// Why there are not more.
    pub(crate) left_out: Vec<MaterialError>,
}

/// Picks the identity to present and verifies it as a peer would that has the same bundles. Others that do not verify are
/// left out.
///
/// # Errors
/// [`MaterialError::NotGiven`] as [`choose`], [`MaterialError::NotVerified`] for the one that is to be presented.
pub(crate) fn usable(material: &Material, choice: &Choice, now: UnixTime) -> Result<Usable, MaterialError> {
    let verify = |svid: &Svid| match verify_peer(&svid.chain, &material.bundles, now) {
        Ok(_) => Ok(()),
        Err(error) => Err(MaterialError::NotVerified(Box::new(error))),
    };
    let chosen = Arc::clone(choose(&material.svids, choice)?);
    verify(&chosen)?;
    let (mut all, mut left_out) = (Vec::with_capacity(material.svids.len()), Vec::new());
    for svid in &material.svids {
        match verify(svid) {
            Ok(()) => all.push(Arc::clone(svid)),
            Err(error) => left_out.push(error),
        }
    }
    Ok(Usable { chosen, all, left_out })
}

/// Reads a message of `FetchX509SVID` that came at `now`.
///
/// # Errors
/// Why the whole message is discarded.
pub(crate) fn read(response: X509svidResponse, now: UnixTime) -> Result<Material, MaterialError> {
    if response.svids.is_empty() {
        return Err(MaterialError::NoSvid);
    }
    if response.svids.len() > MAX_SVIDS {
        return Err(MaterialError::TooMany(response.svids.len()));
    }
    let mut svids: Vec<Arc<Svid>> = Vec::with_capacity(response.svids.len());
    let mut bundles = read_bundles(response.federated_bundles)?;
    for message in response.svids {
        let own = message.bundle.clone();
        let svid = read_svid(message, now)?;
        if own.is_empty() {
            return Err(MaterialError::Missing { id: svid.id.to_string(), field: "bundle" });
        }
        bundles.insert(read_bundle(svid.id.trust_domain(), &own)?);
        // Two identities with one hint: the first counts (I12).
        let repeated = !svid.hint.is_empty() && svids.iter().any(|known| known.hint == svid.hint);
        if !repeated {
            svids.push(Arc::new(svid));
        }
    }
    Ok(Material { svids, bundles })
}

/// Reads the bundles of a message of `FetchX509Bundles`.
///
/// # Errors
/// Why the whole message is discarded.
pub(crate) fn read_bundles(bundles: HashMap<String, Vec<u8>>) -> Result<BundleSet, MaterialError> {
    let mut set = BundleSet::new();
    for (name, der) in bundles {
        let trust_domain = TrustDomain::parse_lenient(&name)
            .map_err(|error| MaterialError::Unusable { id: name.clone(), reason: error.to_string() })?;
        set.insert(read_bundle(trust_domain, &der)?);
    }
    Ok(set)
}

fn read_bundle(trust_domain: TrustDomain, der: &[u8]) -> Result<Bundle, MaterialError> {
    let authorities = Bundle::certificates_from_der(der).map_err(|error| MaterialError::Unusable {
        id: trust_domain.to_string(),
        reason: format!("its bundle: {error}"),
    })?;
    let mut bundle = Bundle::empty(trust_domain);
    bundle.x509_authorities = authorities;
    Ok(bundle)
}

fn read_svid(message: X509svid, obtained: UnixTime) -> Result<Svid, MaterialError> {
    let key = Zeroizing::new(message.x509_svid_key);
    let id = message.spiffe_id;
    let missing = |field| MaterialError::Missing { id: id.clone(), field };
    let unusable = |reason: String| MaterialError::Unusable { id: id.clone(), reason };
    if id.is_empty() {
        return Err(missing("spiffe_id"));
    }
    if message.x509_svid.is_empty() {
        return Err(missing("x509_svid"));
    }
    if key.is_empty() {
        return Err(missing("x509_svid_key"));
    }
    let named = SpiffeId::parse(&id).map_err(|error| unusable(error.to_string()))?;
    let chain: Vec<CertificateDer<'static>> =
        Bundle::certificates_from_der(&message.x509_svid).map_err(|error| unusable(error.to_string()))?;
    let leaf = chain.first().ok_or_else(|| missing("x509_svid"))?;
    let certified = claimed_id(leaf).map_err(|error| unusable(error.to_string()))?;
    if certified != named {
        return Err(unusable(format!("its certificate is for `{certified}`")));
    }
    let leaf = CertInfo::parse(leaf).map_err(|error| unusable(error.to_string()))?;
    let identity = tls::Identity::new(chain.clone(), &key).map_err(|error| unusable(error.to_string()))?;
    Ok(Svid { id: named, hint: message.hint, chain, leaf, obtained, certified_key: identity.certified_key() })
}

/// Picks the identity that the settings want; without a wish the first, which is the default (I19).
///
/// # Errors
/// [`MaterialError::NotGiven`] with the wish and what there is instead.
pub(crate) fn choose<'a>(svids: &'a [Arc<Svid>], choice: &Choice) -> Result<&'a Arc<Svid>, MaterialError> {
    let fits = |svid: &&Arc<Svid>| {
        choice.spiffe_id.as_ref().is_none_or(|id| svid.id == *id)
            && choice.hint.as_ref().is_none_or(|hint| svid.hint == *hint)
            && choice.trust_domain.as_ref().is_none_or(|domain| svid.id.is_member_of(domain))
    };
    svids.iter().find(fits).ok_or_else(|| {
        let mut wanted = Vec::new();
        wanted.extend(choice.spiffe_id.iter().map(|id| format!("identity.spiffe_id {id}")));
        wanted.extend(choice.hint.iter().map(|hint| format!("identity.hint `{hint}`")));
        wanted.extend(choice.trust_domain.iter().map(|domain| format!("trust_domain {domain}")));
        let given: Vec<_> = svids.iter().map(|svid| svid.id.as_str()).collect();
        MaterialError::NotGiven { given: given.join(", "), wanted: wanted.join(" and ") }
    })
}

#[cfg(test)]
mod tests;
