#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    jwt::{JwtSigner, new_kid},
    key::{KeyType, PrivateKey},
    time::from_secs,
    x509::testing::*,
};

fn full() -> Bundle {
    let mut full = bundle(&ca("demo.org"));
    full.x509_authorities.push(ca_of("demo.org", KeyType::Rsa2048).certificate().clone());
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        full.jwt_authorities.push(JwtSigner::new(new_kid().unwrap(), key).unwrap().jwt_key(None));
    }
    full.sequence = 7;
    full.refresh_hint = Some(Duration::from_secs(300));
    full
}

fn document(keys: Value) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn read(keys: Value) -> Result<Bundle, AuthorityError> {
    Bundle::from_spiffe_json(td("demo.org"), &document(keys))
}

/// One good key of each use, as JSON.
fn samples() -> (Value, Value) {
    let written: Value = serde_json::from_str(&full().to_spiffe_json().unwrap()).unwrap();
    (written["keys"][0].clone(), written["keys"][2].clone())
}

/// G1, G2, G3
#[test]
fn a_bundle_survives_its_document() {
    let original = full();
    for text in [original.to_spiffe_json().unwrap(), original.to_spiffe_json_pretty().unwrap()] {
        assert_eq!(Bundle::from_spiffe_json(td("demo.org"), text.as_bytes()).unwrap(), original);
    }
    assert!(original.to_spiffe_json_pretty().unwrap().starts_with("{\n    \"keys\": [\n        {"));
}

/// G2: a number of 64 bits is read whole.
#[test]
fn a_large_sequence_number_is_kept() {
    let text = format!(r#"{{"keys":[],"spiffe_sequence":{}}}"#, u64::MAX);
    assert_eq!(Bundle::from_spiffe_json(td("demo.org"), text.as_bytes()).unwrap().sequence, u64::MAX);
    let bad = br#"{"keys":[],"spiffe_sequence":-1}"#;
    assert_eq!(Bundle::from_spiffe_json(td("demo.org"), bad).unwrap_err().code(), "bad_bundle");
}

/// G4, G6
#[test]
fn keys_must_be_there_and_may_be_empty() {
    assert!(Bundle::from_spiffe_json(td("demo.org"), b"{}").is_err());
    assert!(Bundle::from_spiffe_json(td("demo.org"), br#"{"keys":{}}"#).is_err());
    assert_eq!(read(json!([])).unwrap(), Bundle::empty(td("demo.org")));
    assert_eq!(Bundle::empty(td("demo.org")).to_spiffe_json().unwrap(), r#"{"keys":[],"spiffe_sequence":0}"#);
}

/// G5, E7
#[test]
fn keys_of_unknown_kind_or_use_are_passed_over() {
    let (x509, jwt) = samples();
    let changed = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key
    };
    let mut without_use = jwt.clone();
    without_use.as_object_mut().unwrap().remove("use");
    let keys = json!([
        changed(&x509, "kty", json!("OKP")),
        changed(&x509, "use", json!("X509-SVID")),
        changed(&jwt, "use", json!("sig")),
        changed(&jwt, "use", json!("wit-svid")),
        changed(&jwt, "kty", json!("oct")),
        changed(&jwt, "crv", json!("secp256k1")),
        without_use,
        "not even an object",
    ]);
    assert_eq!(read(keys).unwrap(), Bundle::empty(td("demo.org")));
    assert_eq!(read(json!([x509, jwt])).unwrap().jwt_authorities.len(), 1);
}

/// C10
#[test]
fn x5c_may_be_absent_and_only_its_first_certificate_counts() {
    let (x509, _) = samples();
    for nothing in [Value::Null, json!([])] {
        let mut key = x509.clone();
        key["x5c"] = nothing;
        assert!(read(json!([key])).unwrap().x509_authorities.is_empty());
    }
    let mut two = x509.clone();
    let second =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ca("demo.org").certificate());
    two["x5c"] = json!([x509["x5c"][0], second]);
    let found = read(json!([two])).unwrap();
    assert_eq!(found.x509_authorities, read(json!([x509])).unwrap().x509_authorities);
    let mut broken = x509;
    broken["x5c"] = json!(["AAAA"]);
    assert_eq!(read(json!([broken])).unwrap_err().code(), "malformed_certificate");
}

/// G7, G8, G9, D10
#[test]
fn written_keys_have_what_they_must_and_no_more() {
    let (x509, jwt) = samples();
    let names = |key: &Value| key.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&x509), ["use", "kty", "crv", "x", "y", "x5c"]);
    assert_eq!((&x509["use"], x509["x5c"].as_array().unwrap().len()), (&json!("x509-svid"), 1));
    assert_eq!(names(&jwt), ["use", "kty", "kid", "crv", "x", "y"]);
    assert_eq!(jwt["use"], "jwt-svid");
}

/// D10: a token key without a name is of no use.
#[test]
fn a_jwt_key_needs_its_kid() {
    let (_, mut jwt) = samples();
    jwt["kid"] = json!("");
    assert_eq!(read(json!([jwt])).unwrap_err().code(), "bad_bundle");
}

/// C8, H21
#[test]
fn the_workload_apis_jwks_has_token_keys_only() {
    let original = full();
    let text = original.to_jwks_json().unwrap();
    let keys: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 3);
    assert!(
        keys["keys"].as_array().unwrap().iter().all(|key| key.get("use").is_none() && key["kid"].is_string())
    );
    assert_eq!(Bundle::jwt_keys_from_jwks(text.as_bytes()).unwrap(), original.jwt_authorities);
    // A whole SPIFFE bundle in its place: its roots are not token keys.
    let whole = original.to_spiffe_json().unwrap();
    assert_eq!(Bundle::jwt_keys_from_jwks(whole.as_bytes()).unwrap(), original.jwt_authorities);
}

#[test]
fn roots_survive_pem_and_der() {
    let original = full();
    let back = Bundle::from_pem(td("demo.org"), original.to_pem().as_bytes()).unwrap();
    assert_eq!(back.x509_authorities, original.x509_authorities);
    assert_eq!(Bundle::certificates_from_der(&original.x509_der()).unwrap(), original.x509_authorities);
    assert!(Bundle::certificates_from_der(&[]).unwrap().is_empty());
    assert!(Bundle::certificates_from_der(&[original.x509_der().as_slice(), &[0]].concat()).is_err());
    assert_eq!(Bundle::from_pem(td("demo.org"), b"nothing").unwrap_err().code(), "bad_pem");
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(Bundle::from_pem(td("demo.org"), broken).unwrap_err().code(), "malformed_certificate");
}

#[test]
fn the_root_hash_is_the_certificates_fingerprint() {
    let ca = ca("demo.org");
    assert_eq!(root_hash(ca.certificate()), ca.info().sha256_hex());
}

#[test]
fn bundles_are_bounded() {
    let (_, jwt) = samples();
    let many = vec![jwt; MAX_AUTHORITIES + 1];
    assert_eq!(read(json!(many)).unwrap_err().code(), "bad_bundle");
}

/// C9: an authority that cannot be used is none; the others go on.
#[test]
fn a_broken_authority_takes_no_other_with_it() {
    let ca = ca("demo.org");
    let mut mixed = bundle(&ca);
    mixed.x509_authorities.insert(0, CertificateDer::from(vec![0x30, 0]));
    mixed.jwt_authorities.push(JwtKey {
        kid: "k".to_owned(),
        spki_der: vec![1],
        expires_at: Some(from_secs(1)),
    });
    let (svid, _) = svid(&ca, "spiffe://demo.org/shop");
    assert!(crate::x509::verify_peer(&svid.chain, &BundleSet::of(mixed), now()).is_ok());
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(x509-svid|jwt-svid|EC|RSA|P-256|[A-Za-z0-9_-]{0,44})".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(
                "(keys|use|kty|crv|x|y|n|e|kid|x5c|spiffe_sequence)",
                inner,
                0..8
            )
            .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_is_read_or_refused_without_panic(value in arbitrary_json()) {
        drop(Bundle::from_spiffe_json(td("demo.org"), value.to_string().as_bytes()));
        let wrapped = json!({ "keys": [value] });
        drop(Bundle::from_spiffe_json(td("demo.org"), wrapped.to_string().as_bytes()));
        drop(Bundle::jwt_keys_from_jwks(wrapped.to_string().as_bytes()));
    }

    #[test]
    fn any_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Bundle::from_spiffe_json(td("demo.org"), &bytes));
        drop(Bundle::certificates_from_der(&bytes));
        drop(Bundle::from_pem(td("demo.org"), &bytes));
        drop(crate::key::PublicKey::parse(&bytes));
        drop(crate::key::PrivateKey::from_pkcs8_der(&bytes));
    }
}
