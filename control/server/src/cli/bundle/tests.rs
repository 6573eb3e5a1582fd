#![allow(clippy::unwrap_used)]

use svidecar_authority::{
    key::{KeyType, PrivateKey},
    x509::{CaParams, Subject, X509Ca},
};
use svidecar_process::testing::captured;

use super::*;

fn root() -> types::Bundle {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
    let trust_domain = TrustDomain::parse("demo.org").unwrap();
    let params = CaParams { trust_domain, ttl: Duration::from_secs(3600), subject: Subject::ca_default() };
    let ca = X509Ca::self_signed(&params, key.clone(), now).unwrap();
    types::Bundle {
        trust_domain: "demo.org".to_owned(),
        x509_authorities: vec![types::X509Certificate { asn1: ca.certificate().to_vec(), tainted: false }],
        jwt_authorities: vec![types::JwtKey {
            public_key: key.spki_der(),
            key_id: "k1".to_owned(),
            expires_at: 1_700_003_600,
            tainted: false,
        }],
        refresh_hint: 300,
        sequence_number: 7,
        wit_authorities: Vec::new(),
    }
}

fn printed(print: impl FnOnce(&mut Console) -> Result<(), CliError>) -> String {
    let (mut console, seen) = captured();
    print(&mut console).unwrap();
    seen.out()
}

#[test]
fn both_formats_come_back_as_what_they_were() {
    let bundle = root();
    let spiffe = printed(|console| print(&bundle, BundleFormat::Spiffe, console));
    assert!(spiffe.starts_with("{\n    \"keys\": [\n        {"), "{spiffe}");
    let back = to_message(&parse("spiffe://demo.org", BundleFormat::Spiffe, spiffe.as_bytes()).unwrap());
    let mut expected = bundle.clone();
    // A JWK has no place for the end of a key's life.
    expected.jwt_authorities.iter_mut().for_each(|key| key.expires_at = 0);
    assert_eq!(back, expected);

    let pem = printed(|console| print(&bundle, BundleFormat::Pem, console));
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n"));
    let back = to_message(&parse("demo.org", BundleFormat::Pem, pem.as_bytes()).unwrap());
    assert_eq!(back.x509_authorities, bundle.x509_authorities);
}

#[test]
fn a_list_has_spires_headers() {
    let text = printed(|console| print_list(&[root(), root()], BundleFormat::Pem, console));
    let header = format!("{0}\n* demo.org\n{0}\n-----BEGIN CERTIFICATE-----\n", "*".repeat(40));
    assert!(text.starts_with(&header), "{text}");
    assert!(text.contains(&format!("-----END CERTIFICATE-----\n\n{header}")), "{text}");
}

#[test]
fn what_is_no_bundle_is_refused() {
    for (format, document) in [(BundleFormat::Pem, "hello"), (BundleFormat::Spiffe, "{\"keys\": 1}")] {
        let error = parse("demo.org", format, document.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("unable to parse bundle data: "), "{error}");
    }
    assert!(
        parse("Demo.org", BundleFormat::Pem, b"").unwrap_err().to_string().contains("not a trust domain")
    );
}
