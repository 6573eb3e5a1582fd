#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{fs, path::Path, process::Command};

use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, KeyUsage},
};

use super::*;
use crate::{
    key::KeyType,
    pem,
    time::{between, from_secs},
    x509::{X509Error, testing::*, verify_peer},
};

const SHOP: &str = "spiffe://demo.org/shop";

fn parsed<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    x509_parser::parse_x509_certificate(der).unwrap().1
}

fn params(text: &str) -> SvidParams {
    SvidParams::new(id(text), key().spki_der(), HOUR)
}

fn leaf(ca: &X509Ca, params: &SvidParams) -> CertificateDer<'static> {
    ca.sign_svid(params, now()).unwrap().chain.remove(0)
}

/// B1
#[test]
fn a_leaf_has_its_id_as_the_one_uri_and_any_dns_names() {
    let ca = ca("demo.org");
    let mut asked = params(SHOP);
    asked.dns_names = vec!["shop.demo.org".to_owned(), "*.shop.demo.org".to_owned()];
    let info = CertInfo::parse(&leaf(&ca, &asked)).unwrap();
    assert_eq!(info.uri_names, [SHOP]);
    assert_eq!(info.dns_names, asked.dns_names);
    // The first DNS name becomes the common name, as in SPIRE.
    assert_eq!(info.subject, "CN=shop.demo.org,O=SPIRE,C=US");
    asked.dns_names = vec![format!("{}.demo.org", "a".repeat(60))];
    assert_eq!(CertInfo::parse(&leaf(&ca, &asked)).unwrap().subject, "O=SPIRE,C=US");
}

/// B2
#[test]
fn a_leaf_without_path_is_not_signed() {
    assert_eq!(ca("demo.org").sign_svid(&params("spiffe://demo.org"), now()).unwrap_err().code(), "no_path");
}

/// B3
#[test]
fn alternative_names_are_critical_only_when_the_subject_is_empty() {
    let ca = ca("demo.org");
    let mut asked = params(SHOP);
    let critical =
        |asked: &SvidParams| parsed(&leaf(&ca, asked)).subject_alternative_name().unwrap().unwrap().critical;
    assert!(!critical(&asked));
    asked.subject = Subject::default();
    assert!(critical(&asked));
}

/// A19, A20, B4, B5, B6: the signing certificate is an SVID with the trust domain's own ID.
#[test]
fn a_ca_carries_the_trust_domains_id_and_signs_only_for_it() {
    let ca = ca("demo.org");
    assert_eq!(ca.info().spiffe_id, Some(id("spiffe://demo.org")));
    assert_eq!(ca.info().uri_names, ["spiffe://demo.org"]);
    let error = ca.sign_svid(&params("spiffe://other.org/x"), now()).unwrap_err();
    assert_eq!(error.code(), "foreign_trust_domain");
}

/// A21, A22: in an X.509-SVID, both the ID and the public key are inside what the authority signs.
#[test]
fn an_id_or_a_key_changed_after_signing_is_refused() {
    let ca = ca("demo.org");
    let key = key();
    let genuine = leaf(&ca, &SvidParams::new(id(SHOP), key.spki_der(), HOUR));
    let with = |old: &[u8], new: &[u8]| {
        let at = genuine.windows(old.len()).position(|bytes| bytes == old).unwrap();
        let mut der = genuine.to_vec();
        der[at..at + old.len()].copy_from_slice(new);
        verify_peer(&[der.into()], &trusting(&ca), now())
    };
    let spki = key.spki_der();
    let other = PrivateKey::generate(KeyType::EcP256).unwrap().spki_der();
    assert!(with(SHOP.as_bytes(), SHOP.as_bytes()).is_ok());
    assert_eq!(with(SHOP.as_bytes(), b"spiffe://demo.org/root").unwrap_err().code(), "bad_signature");
    assert_eq!(with(&spki, &other).unwrap_err().code(), "bad_signature");
}

/// B5, B8: what is loaded as an authority is one.
#[test]
fn only_a_signing_certificate_of_a_trust_domain_is_loaded() {
    let root = ca("demo.org");
    let intermediate_key = key();
    let load = |params: &rcgen::CertificateParams| {
        X509Ca::load(sign(&root, params, &intermediate_key), Vec::new(), intermediate_key.clone())
    };
    let mut good = intermediate_params("downstream");
    good.subject_alt_names = vec![SanType::URI("spiffe://demo.org".try_into().unwrap())];
    assert!(load(&good).is_ok());
    let mut with_path = good.clone();
    with_path.subject_alt_names = vec![SanType::URI(SHOP.try_into().unwrap())];
    assert_eq!(load(&with_path).err().unwrap().code(), "not_an_authority");
    let mut not_ca = good;
    not_ca.is_ca = IsCa::ExplicitNoCa;
    assert_eq!(load(&not_ca).err().unwrap().code(), "not_an_authority");
    assert_eq!(load(&intermediate_params("no name")).err().unwrap().code(), "not_an_authority");
    let stranger = X509Ca::load(root.certificate().clone(), Vec::new(), key());
    assert_eq!(stranger.err().unwrap().code(), "key_mismatch");
}

/// B7: what an authority is cannot authenticate.
#[test]
fn a_ca_certificate_is_refused_as_a_peer() {
    let ca = ca("demo.org");
    let refused = verify_peer(std::slice::from_ref(ca.certificate()), &trusting(&ca), now());
    assert!(matches!(refused, Err(X509Error::NoPath { .. })));
}

/// B8, B10, B11, B15
#[test]
fn a_ca_may_sign_certificates_and_crls_and_nothing_else() {
    let ca = ca("demo.org");
    let certificate = parsed(ca.certificate());
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value, &KeyUsage { flags: 0b110_0000 });
    assert!(certificate.extended_key_usage().unwrap().is_none());
    assert!(ca.info().subject.ends_with("O=SPIFFE,C=US") && ca.info().subject.starts_with("serialNumber="));
    assert_eq!(ca.authority_id().len(), 40);
    assert_eq!(ca.info().authority_key_id, ca.info().subject_key_id);
    assert_eq!(between(ca.not_before(), now()), BACKDATE);
    assert_eq!(between(now(), ca.not_after()), DAY);
}

/// B8, B10, B12, B13, B14
#[test]
fn a_leaf_may_authenticate_both_ways_and_nothing_else() {
    let ca = ca("demo.org");
    let der = leaf(&ca, &params(SHOP));
    let certificate = parsed(&der);
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert!(usage.value.digital_signature() && usage.value.key_encipherment() && usage.value.key_agreement());
    assert!(!usage.value.key_cert_sign() && !usage.value.crl_sign());
    let ExtendedKeyUsage { server_auth, client_auth, any, other, .. } =
        certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(*server_auth && *client_auth && !any && other.is_empty());
    let info = CertInfo::parse(&der).unwrap();
    assert_eq!(info.authority_key_id.as_deref(), Some(ca.authority_id()));
    assert!(info.subject_key_id.is_some());
}

/// B9: no name constraints, which some libraries read as a refusal of every URI.
#[test]
fn a_ca_has_no_name_constraints() {
    assert!(parsed(ca("demo.org").certificate()).name_constraints().unwrap().is_none());
}

#[test]
fn a_life_begins_ten_seconds_ago_and_ends_with_the_ca() {
    let ca = ca("demo.org");
    let svid = ca.sign_svid(&params(SHOP), now()).unwrap();
    assert_eq!((between(svid.not_before, now()), between(now(), svid.not_after)), (BACKDATE, HOUR));
    let info = CertInfo::parse(&svid.chain[0]).unwrap();
    assert_eq!((info.not_before, info.not_after), (svid.not_before, svid.not_after));
    assert_eq!(info.serial, svid.serial);

    let mut long = params(SHOP);
    long.ttl = 2 * DAY;
    assert_eq!(ca.sign_svid(&long, now()).unwrap().not_after, ca.not_after());
    long.ttl = std::time::Duration::ZERO;
    assert_eq!(ca.sign_svid(&long, now()).unwrap_err().code(), "zero_ttl");
    assert_eq!(ca.sign_svid(&params(SHOP), ca.not_after()).unwrap_err().code(), "authority_not_valid");
}

/// RFC 5280 §4.1.2.2: positive, at most 20 octets; ours have 127 random bits.
#[test]
fn serial_numbers_are_positive_long_and_different() {
    let ca = ca("demo.org");
    let mut seen = std::collections::BTreeSet::new();
    let asked = params(SHOP);
    for _ in 0..300 {
        let der = leaf(&ca, &asked);
        let certificate = parsed(&der);
        let raw = certificate.raw_serial();
        assert!(raw.len() <= 16 && raw[0] < 0x80, "{raw:?}");
        // The shortest form: no leading zero unless the next bit would make it negative.
        assert!(raw.len() == 1 || raw[0] != 0 || raw[1] >= 0x80, "{raw:?}");
        assert!(seen.insert(raw.to_vec()));
    }
}

#[test]
fn unusable_keys_and_names_are_refused() {
    let ca = ca("demo.org");
    let mut asked = params(SHOP);
    asked.spki_der = vec![0x30, 0];
    assert_eq!(ca.sign_svid(&asked, now()).unwrap_err().code(), "unsupported_public_key");
    let mut asked = params(SHOP);
    asked.dns_names = vec!["not a name".to_owned()];
    assert_eq!(ca.sign_svid(&asked, now()).unwrap_err().code(), "bad_dns_name");
    let mut asked = params(SHOP);
    asked.subject.organization = Some("x".repeat(65));
    assert_eq!(ca.sign_svid(&asked, now()).unwrap_err().code(), "bad_field");
}

/// A downstream authority puts itself behind its leaves; a root does not.
#[test]
fn an_intermediate_goes_along_with_its_leaves() {
    let root = ca("demo.org");
    let intermediate_key = key();
    let mut asked = intermediate_params("downstream");
    asked.subject_alt_names = vec![SanType::URI("spiffe://demo.org".try_into().unwrap())];
    let certificate = sign(&root, &asked, &intermediate_key);
    let downstream = X509Ca::load(certificate.clone(), Vec::new(), intermediate_key).unwrap();
    let svid = downstream.sign_svid(&params(SHOP), now()).unwrap();
    assert_eq!(svid.chain[1..], [certificate]);
    assert!(verify_peer(&svid.chain, &trusting(&root), now()).is_ok());
    assert_eq!(root.sign_svid(&params(SHOP), now()).unwrap().chain.len(), 1);
}

/// Runs the real OpenSSL; a machine without it cannot run this test, and is told so.
fn openssl(directory: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new("openssl").args(arguments).current_dir(directory).output().unwrap_or_else(|error| {
            panic!("cannot run `openssl` ({error}); install it, for instance with `apt-get install openssl`")
        });
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?} failed:\n{text}");
    text
}

/// B1 to B14 in the eyes of OpenSSL, with every kind of key, directly under the root and below an intermediate.
#[test]
fn openssl_agrees_with_what_we_sign() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let root = ca_of("demo.org", key_type);
        let intermediate_key = PrivateKey::generate(key_type).unwrap();
        let mut downstream = intermediate_params("downstream");
        downstream.subject_alt_names = vec![SanType::URI("spiffe://demo.org".try_into().unwrap())];
        let intermediate = sign(&root, &downstream, &intermediate_key);
        let mut asked = SvidParams::new(id(SHOP), PrivateKey::generate(key_type).unwrap().spki_der(), HOUR);
        asked.dns_names = vec!["shop.demo.org".to_owned()];
        let direct = leaf(&root, &asked);
        let below = X509Ca::load(intermediate.clone(), Vec::new(), intermediate_key).unwrap();
        let below = leaf(&below, &asked);

        let directory = tempfile::tempdir().unwrap();
        let at = now().as_secs().to_string();
        for (name, der) in [
            ("root", root.certificate()),
            ("intermediate", &intermediate),
            ("direct", &direct),
            ("below", &below),
        ] {
            fs::write(directory.path().join(name), &*pem::encode("CERTIFICATE", der)).unwrap();
        }
        for purpose in ["sslserver", "sslclient"] {
            let verify = ["verify", "-x509_strict", "-purpose", purpose, "-attime", &at, "-CAfile", "root"];
            openssl(directory.path(), &[&verify[..], &["direct"]].concat());
            openssl(directory.path(), &[&verify[..], &["-untrusted", "intermediate", "below"]].concat());
        }
        let text = openssl(directory.path(), &["x509", "-noout", "-text", "-in", "direct"]);
        for expected in [
            "URI:spiffe://demo.org/shop, DNS:shop.demo.org",
            "C = US, O = SPIRE, CN = shop.demo.org",
            "X509v3 Basic Constraints: critical\n                CA:FALSE",
            "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment, Key Agreement",
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "Version: 3",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        let text = openssl(directory.path(), &["x509", "-noout", "-text", "-in", "root"]);
        for expected in [
            "URI:spiffe://demo.org",
            "C = US, O = SPIFFE, serialNumber = ",
            "X509v3 Basic Constraints: critical\n                CA:TRUE",
            "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }
}

/// OpenSSL reads our keys, and we read OpenSSL's.
#[test]
fn openssl_and_we_exchange_keys() {
    let directory = tempfile::tempdir().unwrap();
    let ours = key();
    fs::write(directory.path().join("key"), &*ours.to_pkcs8_pem()).unwrap();
    openssl(directory.path(), &["pkey", "-in", "key", "-check", "-noout"]);
    for generate in [&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..], &["-algorithm", "RSA"]]
    {
        openssl(directory.path(), &[&["genpkey", "-out", "theirs"], generate].concat());
        let theirs = fs::read(directory.path().join("theirs")).unwrap();
        PrivateKey::from_pem(&theirs).unwrap();
    }
}

/// A clock before 1970 or after 9999 is a broken clock, not a panic.
#[test]
fn times_at_the_edges_are_harmless() {
    let asked = CaParams { trust_domain: td("demo.org"), ttl: DAY, subject: Subject::ca_default() };
    for seconds in [0, 5, u64::MAX / 2, u64::MAX] {
        drop(X509Ca::self_signed(&asked, key(), from_secs(seconds)));
    }
}
