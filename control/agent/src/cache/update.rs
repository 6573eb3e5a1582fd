//! What workloads with the same selectors see: computed once, shared by all of them.
//!
//! Owns the content and the order of Workload API messages. It must never send one; the endpoint does,
//! and only when it differs from the one before.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use svidecar_api::workload::{JwtBundlesResponse, X509BundlesResponse, X509svid, X509svidResponse};
use svidecar_id::TrustDomain;

use super::Bundles;
use crate::{entry::Entry, svid::HeldSvid};

/// The full state for one set of selectors.
#[derive(Default, PartialEq)]
pub struct Update {
    /// The entries that match, in the order in which the workload sees them, hints unique.
    pub entries: Vec<Arc<Entry>>,
    /// The answer to `FetchX509SVID`; none while no matching entry has an SVID.
    pub x509: Option<Arc<X509svidResponse>>,
    /// The answer to `FetchX509Bundles`.
    pub x509_bundles: Arc<X509BundlesResponse>,
    /// The answer to `FetchJWTBundles`.
    pub jwt_bundles: Arc<JwtBundlesResponse>,
    /// How many matching entries wait for their first SVID.
    pub pending: usize,
    /// Why the last of them has none, if signing failed.
    pub failure: Option<Arc<str>>,
}

/// One matching entry and what there is for it.
pub struct Match<'a> {
    /// The entry.
    pub entry: &'a Arc<Entry>,
    /// Its SVID, if signed.
    pub svid: Option<&'a HeldSvid>,
    /// Why it could not be signed.
    pub failure: Option<&'a Arc<str>>,
}

impl Update {
    /// Puts together what a workload with these `matches` sees.
    #[must_use]
    pub fn of(trust_domain: &TrustDomain, matches: &[Match<'_>], bundles: &Bundles) -> Self {
        let svids: Vec<_> = matches.iter().filter_map(|found| render(found, bundles)).collect();
        let federated: BTreeSet<&TrustDomain> = matches
            .iter()
            .flat_map(|found| &found.entry.federates_with)
            .filter(|td| *td != trust_domain)
            .collect();
        let x509 = (!svids.is_empty()).then(|| {
            // Only the bundles of identities that are in the message.
            let entitled = matches.iter().filter(|found| found.svid.is_some());
            let federated =
                entitled.flat_map(|found| &found.entry.federates_with).filter(|td| *td != trust_domain);
            Arc::new(X509svidResponse {
                svids,
                crl: Vec::new(),
                federated_bundles: collect(federated, |td| bundles.x509_der(td)),
            })
        });
        let all = || federated.iter().copied().chain([trust_domain]);
        Self {
            entries: matches.iter().map(|found| Arc::clone(found.entry)).collect(),
            x509,
            x509_bundles: Arc::new(X509BundlesResponse {
                crl: Vec::new(),
                bundles: collect(all(), |td| bundles.x509_der(td)),
            }),
            jwt_bundles: Arc::new(JwtBundlesResponse { bundles: collect(all(), |td| bundles.jwks(td)) }),
            pending: matches.iter().filter(|found| found.svid.is_none() && found.failure.is_none()).count(),
            failure: matches.iter().rev().find_map(|found| found.failure.cloned()),
        }
    }
}

fn render(found: &Match<'_>, bundles: &Bundles) -> Option<X509svid> {
    let svid = found.svid?;
    Some(X509svid {
        spiffe_id: svid.spiffe_id.to_string(),
        x509_svid: svid.chain_der(),
        x509_svid_key: svid.key.pkcs8_der().to_vec(),
        bundle: bundles.x509_der(&svid.spiffe_id.trust_domain())?.to_vec(),
        hint: found.entry.hint.clone(),
    })
}

fn collect<'a>(
    trust_domains: impl Iterator<Item = &'a TrustDomain>,
    bytes: impl Fn(&TrustDomain) -> Option<&'a [u8]>,
) -> HashMap<String, Vec<u8>> {
    trust_domains.filter_map(|td| Some((td.id().to_string(), bytes(td)?.to_vec()))).collect()
}
