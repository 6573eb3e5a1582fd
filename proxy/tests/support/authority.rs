//! A trust domain's authority in memory.

use std::{collections::HashMap, time::Duration};

use rustls_pki_types::UnixTime;
use svidecar_api::workload::{X509svid, X509svidResponse};
use svidecar_authority::{
    bundle::{Bundle, BundleSet},
    key::{KeyType, PrivateKey},
    tls,
    x509::{CaParams, Subject, SvidParams, X509Ca},
};
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::clock;

pub const HOUR: Duration = Duration::from_secs(3600);

pub struct Authority {
    pub trust_domain: TrustDomain,
    ca: X509Ca,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let trust_domain = TrustDomain::parse(name).unwrap();
        let params =
            CaParams { trust_domain: trust_domain.clone(), ttl: 24 * HOUR, subject: Subject::ca_default() };
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        // Old enough that SVIDs of the past can be signed.
        let born = svidecar_authority::time::minus(clock::unix(), 2 * HOUR);
        Self { ca: X509Ca::self_signed(&params, key, born).unwrap(), trust_domain }
    }

    pub fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::new(&self.trust_domain, path).unwrap()
    }

    pub fn bundle(&self) -> Bundle {
        let mut bundle = Bundle::empty(self.trust_domain.clone());
        bundle.x509_authorities = vec![self.ca.certificate().clone()];
        bundle
    }

    /// A message entry of the Workload API.
    pub fn svid(&self, path: &str, ttl: Duration, now: UnixTime) -> X509svid {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let params = SvidParams::new(self.id(path), key.spki_der(), ttl);
        let svid = self.ca.sign_svid(&params, now).unwrap();
        X509svid {
            spiffe_id: svid.id.to_string(),
            x509_svid: svid.chain.iter().flat_map(|der| der.as_ref().to_vec()).collect(),
            x509_svid_key: key.pkcs8_der().to_vec(),
            bundle: self.ca.certificate().to_vec(),
            hint: String::new(),
        }
    }

    /// The whole message for one workload that trusts `also` as well.
    pub fn response(&self, path: &str, also: &[&Self]) -> X509svidResponse {
        self.response_for(path, HOUR, also)
    }

    pub fn response_for(&self, path: &str, ttl: Duration, also: &[&Self]) -> X509svidResponse {
        let federated: HashMap<_, _> = also
            .iter()
            .map(|other| (other.trust_domain.id().to_string(), other.ca.certificate().to_vec()))
            .collect();
        X509svidResponse {
            svids: vec![self.svid(path, ttl, clock::unix())],
            crl: Vec::new(),
            federated_bundles: federated,
        }
    }

    /// An identity for a test's own TLS.
    pub fn identity(&self, path: &str) -> tls::Identity {
        self.identity_at(path, HOUR, clock::unix())
    }

    pub fn identity_at(&self, path: &str, ttl: Duration, now: UnixTime) -> tls::Identity {
        let svid = self.svid(path, ttl, now);
        let chain = Bundle::certificates_from_der(&svid.x509_svid).unwrap();
        tls::Identity::new(chain, &svid.x509_svid_key).unwrap()
    }

    pub fn bundles(&self) -> BundleSet {
        BundleSet::of(self.bundle())
    }
}
