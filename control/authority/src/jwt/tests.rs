#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA384, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use super::*;
use crate::{
    bundle::{Bundle, BundleSet, JwtKey},
    key::{KeyType, PrivateKey},
    time::{minus, plus},
    x509::testing::*,
};

const SHOP: &str = "spiffe://demo.org/shop";

fn signer_of(key_type: KeyType) -> JwtSigner {
    JwtSigner::new(new_kid().unwrap(), PrivateKey::generate(key_type).unwrap()).unwrap()
}

fn trusting_signer(signer: &JwtSigner) -> BundleSet {
    let mut bundle = Bundle::empty(td("demo.org"));
    bundle.jwt_authorities.push(signer.jwt_key(None));
    BundleSet::of(bundle)
}

fn claims() -> JwtClaims {
    JwtClaims {
        sub: id(SHOP),
        aud: vec!["orders".to_owned()],
        iat: now(),
        exp: plus(now(), HOUR),
        iss: None,
        jti: None,
    }
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Signs any header and any claims, as a token of ours would be.
fn forge(signer: &JwtSigner, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let pair = EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        signer.key().pkcs8_der(),
    )
    .unwrap();
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn good_header(signer: &JwtSigner) -> Value {
    json!({"alg": "ES256", "kid": signer.kid(), "typ": "JWT"})
}

fn good_claims() -> Value {
    json!({"sub": SHOP, "aud": ["orders"], "exp": now().as_secs() + 3600, "iat": now().as_secs()})
}

/// What a token with one thing changed is answered.
fn verdict(change: impl FnOnce(&mut Value, &mut Value)) -> Result<JwtSvid, &'static str> {
    let signer = signer_of(KeyType::EcP256);
    let (mut header, mut claims) = (good_header(&signer), good_claims());
    change(&mut header, &mut claims);
    let token = forge(&signer, &header, &claims);
    validate(&token, &["orders"], &trusting_signer(&signer), now()).map_err(|error| error.code().name())
}

/// D1, D2, D3, D4, D5
#[test]
fn the_header_has_algorithm_key_and_type_and_nothing_else() {
    for (key_type, algorithm) in
        [(KeyType::EcP256, "ES256"), (KeyType::EcP384, "ES384"), (KeyType::Rsa2048, "RS256")]
    {
        let signer = signer_of(key_type);
        let token = mint(&signer, &claims()).unwrap();
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(part(&token, 0), json!({"alg": algorithm, "kid": signer.kid(), "typ": "JWT"}));
        let svid = validate(&token, &["orders"], &trusting_signer(&signer), now()).unwrap();
        assert_eq!((svid.id, svid.expires_at), (id(SHOP), plus(now(), HOUR)));
    }
}

/// D6, D7, D8, D9
#[test]
fn the_claims_are_spires() {
    let signer = signer_of(KeyType::EcP256);
    assert_eq!(part(&mint(&signer, &claims()).unwrap(), 1), good_claims());
    let more = JwtClaims { iss: Some("https://demo.org".to_owned()), jti: Some("7".to_owned()), ..claims() };
    let written = part(&mint(&signer, &more).unwrap(), 1);
    assert_eq!((&written["iss"], &written["jti"]), (&json!("https://demo.org"), &json!("7")));
}

/// D6, D7, D8
#[test]
fn a_token_without_audience_end_or_workload_is_not_made() {
    let signer = signer_of(KeyType::EcP256);
    let bad = [
        JwtClaims { aud: vec![], ..claims() },
        JwtClaims { aud: vec![String::new()], ..claims() },
        JwtClaims { exp: now(), ..claims() },
        JwtClaims { sub: id("spiffe://demo.org"), ..claims() },
    ];
    for claims in bad {
        assert_eq!(mint(&signer, &claims).unwrap_err().code(), "bad_claims");
    }
    assert!(JwtSigner::new("", key()).is_err());
}

#[test]
fn key_names_are_32_letters_and_digits() {
    let kid = new_kid().unwrap();
    assert!(kid.len() == 32 && kid.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_ne!(kid, new_kid().unwrap());
}

/// E1
#[test]
fn json_serialization_is_refused() {
    let signer = signer_of(KeyType::EcP256);
    let token = mint(&signer, &claims()).unwrap();
    let parts = token.split('.').collect::<Vec<_>>();
    let flattened = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    let refused = validate(&flattened, &["orders"], &trusting_signer(&signer), now()).unwrap_err();
    assert_eq!(refused, JwtError::JsonForm);
}

/// E2
#[test]
fn only_the_nine_algorithms_are_accepted() {
    for algorithm in ["none", "None", "HS256", "EdDSA", "ES256K", "es256", "", "RSA-OAEP"] {
        assert_eq!(
            verdict(|header, _| header["alg"] = json!(algorithm)),
            Err("algorithm_not_allowed"),
            "{algorithm}"
        );
    }
    assert_eq!(verdict(|header, _| header["alg"] = json!(7)), Err("algorithm_not_allowed"));
}

/// E2: an allowed algorithm that is not the key's.
#[test]
fn the_algorithm_must_be_the_keys() {
    for algorithm in ["ES384", "ES512", "RS256", "PS256"] {
        assert_eq!(
            verdict(|header, _| header["alg"] = json!(algorithm)),
            Err("algorithm_mismatch"),
            "{algorithm}"
        );
    }
}

/// E2: those that we never sign with ourselves.
#[test]
fn foreign_algorithms_verify() {
    let rsa = PrivateKey::generate(KeyType::Rsa2048).unwrap();
    let pair = RsaKeyPair::from_pkcs8(rsa.pkcs8_der()).unwrap();
    let encodings: [(&str, &dyn RsaEncoding); 4] = [
        ("RS384", &RSA_PKCS1_SHA384),
        ("PS256", &RSA_PSS_SHA256),
        ("PS384", &RSA_PSS_SHA384),
        ("PS512", &RSA_PSS_SHA512),
    ];
    for (algorithm, encoding) in encodings {
        let sign = |message: &[u8]| {
            let mut out = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), message, &mut out).unwrap();
            out
        };
        assert_foreign(algorithm, rsa.spki_der(), sign);
    }
    let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
    let raw = pair.public_key().as_ref();
    let public =
        crate::key::PublicKey::from_ec(crate::key::PublicKeyKind::EcP521, &raw[1..67], &raw[67..]).unwrap();
    let sign = |message: &[u8]| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    assert_foreign("ES512", public.spki_der(), sign);
}

fn assert_foreign(algorithm: &str, spki_der: Vec<u8>, sign: impl Fn(&[u8]) -> Vec<u8>) {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": algorithm, "kid": "k"})), encode(&good_claims()));
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())));
    let mut bundle = Bundle::empty(td("demo.org"));
    bundle.jwt_authorities.push(JwtKey { kid: "k".to_owned(), spki_der, expires_at: None });
    assert!(validate(&token, &["orders"], &BundleSet::of(bundle), now()).is_ok(), "{algorithm}");
}

/// E3
#[test]
fn the_type_is_jwt_or_jose_or_absent() {
    assert!(verdict(|header, _| header["typ"] = json!("JOSE")).is_ok());
    assert!(verdict(|header, _| drop(header.as_object_mut().unwrap().remove("typ"))).is_ok());
    for other in ["at+jwt", "wit+jwt", "jwt", ""] {
        assert_eq!(verdict(|header, _| header["typ"] = json!(other)), Err("wrong_token_type"), "{other}");
    }
    assert_eq!(verdict(|header, _| header["typ"] = json!(null)), Err("malformed_token"));
}

/// D3
#[test]
fn a_kid_is_needed() {
    assert_eq!(verdict(|header, _| header["kid"] = json!("")), Err("no_key_id"));
    assert_eq!(verdict(|header, _| header["kid"] = json!("other")), Err("unknown_key"));
}

/// RFC 7515 §4.1.11
#[test]
fn a_critical_extension_is_refused() {
    assert_eq!(verdict(|header, _| header["crit"] = json!(["exp"])), Err("critical_header"));
}

/// E4
#[test]
fn the_audience_must_name_us() {
    assert!(verdict(|_, claims| claims["aud"] = json!("orders")).is_ok());
    assert!(verdict(|_, claims| claims["aud"] = json!(["other", "orders"])).is_ok());
    assert_eq!(verdict(|_, claims| claims["aud"] = json!(["other"])), Err("wrong_audience"));
    assert_eq!(verdict(|_, claims| claims["aud"] = json!("Orders")), Err("wrong_audience"));
    for missing in [json!(null), json!([])] {
        assert_eq!(verdict(|_, claims| claims["aud"] = missing), Err("no_audience"));
    }
    assert_eq!(verdict(|_, claims| claims["aud"] = json!([1])), Err("malformed_token"));
}

/// E5
#[test]
fn the_end_must_be_there_and_ahead() {
    assert_eq!(verdict(|_, claims| claims["exp"] = json!("tomorrow")), Err("no_expiry"));
    assert_eq!(verdict(|_, claims| drop(claims.as_object_mut().unwrap().remove("exp"))), Err("no_expiry"));
    let at = |end: UnixTime| verdict(|_, claims| claims["exp"] = json!(end.as_secs()));
    assert_eq!(at(minus(now(), LEEWAY)), Err("expired"));
    assert!(at(plus(minus(now(), LEEWAY), std::time::Duration::from_secs(1))).is_ok());
    assert!(verdict(|_, claims| claims["exp"] = json!(1.79e9 + 3600.5)).is_ok());
    assert_eq!(verdict(|_, claims| claims["exp"] = json!(-1)), Err("no_expiry"));
    let late = plus(now(), 2 * LEEWAY).as_secs();
    assert_eq!(verdict(|_, claims| claims["nbf"] = json!(late)), Err("not_yet_valid"));
}

/// E6
#[test]
fn the_subject_is_a_spiffe_id_of_a_trust_domain_that_we_know() {
    for subject in ["", "shop", "https://demo.org/shop", "spiffe://demo.org/"] {
        assert_eq!(
            verdict(|_, claims| claims["sub"] = json!(subject)),
            Err("invalid_spiffe_id"),
            "{subject}"
        );
    }
    assert_eq!(
        verdict(|_, claims| claims["sub"] = json!("spiffe://other.org/x")),
        Err("unknown_trust_domain")
    );
}

/// E6: a key of one trust domain does not vouch for another.
#[test]
fn the_key_is_looked_up_in_the_subjects_own_bundle() {
    let signer = signer_of(KeyType::EcP256);
    let mut theirs = Bundle::empty(td("partner.org"));
    theirs.jwt_authorities.push(signer.jwt_key(None));
    let bundles: BundleSet = [Bundle::empty(td("demo.org")), theirs].into_iter().collect();
    let token = mint(&signer, &claims()).unwrap();
    assert_eq!(validate(&token, &["orders"], &bundles, now()).unwrap_err().code(), "unknown_key");
}

/// E7, C8: an X.509 authority with the same key signs no tokens.
#[test]
fn x509_authorities_do_not_count() {
    let ca = ca("demo.org");
    let signer = JwtSigner::new(ca.authority_id(), ca.key().clone()).unwrap();
    let token = mint(&signer, &claims()).unwrap();
    assert_eq!(validate(&token, &["orders"], &trusting(&ca), now()).unwrap_err().code(), "unknown_key");
}

/// E8: nothing remembers tokens.
#[test]
fn a_token_may_be_presented_again() {
    let signer = signer_of(KeyType::EcP256);
    let token = mint(&signer, &JwtClaims { jti: Some("once".to_owned()), ..claims() }).unwrap();
    for _ in 0..2 {
        assert!(validate(&token, &["orders"], &trusting_signer(&signer), now()).is_ok());
    }
}

/// A21, A22: in a JWT-SVID, the ID is inside what the authority signs.
#[test]
fn a_changed_token_is_refused() {
    let signer = signer_of(KeyType::EcP256);
    let token = mint(&signer, &claims()).unwrap();
    let parts = token.split('.').collect::<Vec<_>>();
    for (name, value) in [("admin", json!(true)), ("sub", json!("spiffe://demo.org/root"))] {
        let mut claims = good_claims();
        claims[name] = value;
        let changed = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]);
        let refused = validate(&changed, &["orders"], &trusting_signer(&signer), now()).unwrap_err();
        assert_eq!(refused.code(), "bad_signature", "{name}");
    }
    for shape in ["", "a", "a.b", &token[1..], &format!("{token}.x"), &format!("{}.{}.", parts[0], parts[1])]
    {
        assert!(validate(shape, &["orders"], &trusting_signer(&signer), now()).is_err(), "{shape}");
    }
    let long = "a".repeat(MAX_TOKEN_BYTES + 1);
    assert_eq!(validate(&long, &["orders"], &BundleSet::new(), now()).unwrap_err().code(), "token_too_long");
}

#[test]
fn subject_and_end_of_our_own_tokens_are_read_back() {
    let token = mint(&signer_of(KeyType::EcP256), &claims()).unwrap();
    assert_eq!(subject_of_accepted(&token).unwrap(), (id(SHOP), plus(now(), HOUR)));
}

proptest! {
    #[test]
    fn any_text_is_an_error_never_a_panic(text in "\\PC{0,300}") {
        prop_assert!(validate(&text, &["orders"], &BundleSet::new(), now()).is_err());
    }

    #[test]
    fn any_three_parts_are_an_error_never_a_panic(
        header in "\\PC{0,80}", claims in "\\PC{0,80}", signature in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let signer = signer_of(KeyType::EcP256);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let raw = format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(&signature));
        prop_assert!(validate(&raw, &["orders"], &trusting_signer(&signer), now()).is_err());
        let plausible = format!(
            "{}.{}.{}",
            encode(good_header(&signer).to_string().as_bytes()),
            encode(good_claims().to_string().as_bytes()),
            encode(&signature)
        );
        prop_assert!(validate(&plausible, &["orders"], &trusting_signer(&signer), now()).is_err());
    }
}
