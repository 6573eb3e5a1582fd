//! What this crate's unit tests make identities with: our own authority at a fixed time.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use svidecar_authority::{
    bundle::Bundle,
    key::{KeyType, PrivateKey},
    x509::{CaParams, Subject, SvidParams, X509Ca},
};
use svidecar_id::{SpiffeId, TrustDomain};

use crate::svid::{HeldSvid, unix_time};

pub const HOUR: Duration = Duration::from_secs(3600);

/// A moment in 2026.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

pub fn trust_domain() -> TrustDomain {
    TrustDomain::parse("demo.org").unwrap()
}

pub fn key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).unwrap()
}

pub fn ca_of(name: &str) -> X509Ca {
    let trust_domain = TrustDomain::parse(name).unwrap();
    let params = CaParams { trust_domain, ttl: 24 * HOUR, subject: Subject::ca_default() };
    X509Ca::self_signed(&params, key(), unix_time(now())).unwrap()
}

pub fn bundle_of(ca: &X509Ca) -> Bundle {
    let mut bundle = Bundle::empty(ca.trust_domain().clone());
    bundle.x509_authorities.push(ca.certificate().clone());
    bundle
}

/// An SVID as the server would sign it, for one hour.
pub fn held(ca: &X509Ca, path: &str) -> HeldSvid {
    let key = key();
    let id = SpiffeId::new(ca.trust_domain(), path).unwrap();
    let svid = ca.sign_svid(&SvidParams::new(id, key.spki_der(), HOUR), unix_time(now())).unwrap();
    HeldSvid::read(svid.chain, key, now()).unwrap()
}
