//! What a message of the Workload API gives, and what makes the whole message worthless.

#![allow(clippy::unwrap_used)]

use svidecar_process::clock;

use super::*;
use crate::testing::{Issuer, message};

fn read(response: X509svidResponse) -> Result<Material, MaterialError> {
    super::read(response, clock::unix())
}

/// I19: without a wish the first is the default identity.
#[test]
fn the_first_identity_is_the_default() {
    let issuer = Issuer::new("demo.org");
    let svids = vec![issuer.svid("/first", "internal"), issuer.svid("/second", "external")];
    let material = read(message(svids)).unwrap();
    let choose = |choice: Choice| choose(&material.svids, &choice).map(|svid| svid.id.to_string());
    assert_eq!(choose(Choice::default()).unwrap(), "spiffe://demo.org/first");
    let by_hint = Choice { hint: Some("external".to_owned()), ..Choice::default() };
    assert_eq!(choose(by_hint).unwrap(), "spiffe://demo.org/second");
    let by_id = Choice { spiffe_id: SpiffeId::parse("spiffe://demo.org/second").ok(), ..Choice::default() };
    assert_eq!(choose(by_id).unwrap(), "spiffe://demo.org/second");
    let foreign = Choice { trust_domain: TrustDomain::parse("other.org").ok(), ..Choice::default() };
    let error = choose(foreign).unwrap_err().to_string();
    assert!(error.contains("trust_domain other.org") && error.contains("demo.org/first"), "{error}");
}

/// I12: of two identities with the same hint the first counts.
#[test]
fn a_repeated_hint_means_the_first() {
    let issuer = Issuer::new("demo.org");
    let svids =
        vec![issuer.svid("/first", "same"), issuer.svid("/second", "same"), issuer.svid("/third", "")];
    let material = read(message(svids)).unwrap();
    let ids: Vec<_> = material.svids.iter().map(|svid| svid.id.path()).collect();
    assert_eq!(ids, ["/first", "/third"]);
}

/// I11: a mandatory field that is missing makes the whole message worthless.
#[test]
fn a_missing_field_is_named() {
    let issuer = Issuer::new("demo.org");
    for field in ["spiffe_id", "x509_svid", "x509_svid_key", "bundle"] {
        let mut svid = issuer.svid("/a", "");
        match field {
            "spiffe_id" => svid.spiffe_id.clear(),
            "x509_svid" => svid.x509_svid.clear(),
            "x509_svid_key" => svid.x509_svid_key.clear(),
            _ => svid.bundle.clear(),
        }
        let error = read(message(vec![issuer.svid("/b", ""), svid])).err().unwrap();
        assert!(matches!(error, MaterialError::Missing { field: named, .. } if named == field), "{error}");
    }
    assert!(matches!(read(message(Vec::new())), Err(MaterialError::NoSvid)));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let issuer = Issuer::new("demo.org");
    let mut renamed = issuer.svid("/a", "");
    renamed.spiffe_id = "spiffe://demo.org/b".to_owned();
    let error = read(message(vec![renamed])).err().unwrap().to_string();
    assert!(error.contains("its certificate is for `spiffe://demo.org/a`"), "{error}");

    let mut foreign_key = issuer.svid("/a", "");
    foreign_key.x509_svid_key = issuer.svid("/b", "").x509_svid_key;
    assert!(read(message(vec![foreign_key])).is_err());

    let mut garbage = issuer.svid("/a", "");
    garbage.bundle = vec![0x30, 0x03, 1, 2, 3];
    assert!(read(message(vec![garbage])).is_err());

    let many = vec![issuer.svid("/a", ""); MAX_SVIDS + 1];
    assert!(matches!(read(message(many)), Err(MaterialError::TooMany(_))));
}

/// Bundles of the own and of federated trust domains, each under its own name.
#[test]
fn bundles_come_with_the_identities() {
    let (own, partner) = (Issuer::new("demo.org"), Issuer::new("partner.org"));
    let mut response = message(vec![own.svid("/a", "")]);
    response.federated_bundles.insert("spiffe://partner.org".to_owned(), partner.0.certificate().to_vec());
    let material = read(response).unwrap();
    let names: Vec<_> = material.bundles.iter().map(|bundle| bundle.trust_domain.to_string()).collect();
    assert_eq!(names, ["demo.org", "partner.org"]);
    let bad = HashMap::from([("spiffe://NOT VALID".to_owned(), Vec::new())]);
    assert!(read_bundles(bad).is_err());
}
