//! An authority that makes messages of the Workload API, for the unit tests.

use std::time::Duration;

use svidecar_api::workload::{X509svid, X509svidResponse};
use svidecar_authority::{
    UnixTime,
    key::{KeyType, PrivateKey},
    time,
    x509::{CaParams, Subject, SvidParams, X509Ca},
};
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::clock;

pub const LIFE: Duration = Duration::from_secs(3600);

pub struct Issuer(pub X509Ca);

impl Issuer {
    pub fn new(name: &str) -> Self {
        let params = CaParams {
            trust_domain: TrustDomain::parse(name).unwrap(),
            ttl: Duration::from_secs(86_400),
            subject: Subject::ca_default(),
        };
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        // Old enough that SVIDs of the past can be signed.
        Self(X509Ca::self_signed(&params, key, time::minus(clock::unix(), 2 * LIFE)).unwrap())
    }

    pub fn svid(&self, path: &str, hint: &str) -> X509svid {
        self.svid_of(path, hint, clock::unix())
    }

    /// One that was signed at that time, or will be.
    pub fn svid_of(&self, path: &str, hint: &str, born: UnixTime) -> X509svid {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let id = SpiffeId::new(self.0.trust_domain(), path).unwrap();
        let params = SvidParams::new(id, key.spki_der(), LIFE);
        let svid = self.0.sign_svid(&params, born).unwrap();
        X509svid {
            spiffe_id: svid.id.to_string(),
            x509_svid: svid.chain.iter().flat_map(|der| der.to_vec()).collect(),
            x509_svid_key: key.pkcs8_der().to_vec(),
            bundle: self.0.certificate().to_vec(),
            hint: hint.to_owned(),
        }
    }
}

pub fn message(svids: Vec<X509svid>) -> X509svidResponse {
    X509svidResponse { svids, ..X509svidResponse::default() }
}
