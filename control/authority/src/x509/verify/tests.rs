#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose, SanType};
use svidecar_code::Code;

use super::*;
use crate::{
    bundle::{Bundle, BundleSet},
    key::KeyType,
    time::{minus, plus},
    x509::{X509Ca, testing::*},
};

const SHOP: &str = "spiffe://demo.org/shop";

/// Code of the refusal of a leaf with these parameters, signed by a trusted root.
fn refusal_of(params: &rcgen::CertificateParams) -> Code {
    let ca = ca("demo.org");
    verify_peer(&[sign(&ca, params, &key())], &trusting(&ca), now()).unwrap_err().code()
}

/// C1
#[test]
fn our_own_svid_is_accepted() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let ca = ca_of("demo.org", key_type);
        let (svid, _) = svid(&ca, SHOP);
        let peer = verify_peer(&svid.chain, &trusting(&ca), now()).unwrap();
        assert_eq!(peer.id, id(SHOP));
        assert_eq!(peer.not_after, svid.not_after);
        assert_eq!(peer.serial, svid.serial);
        assert_eq!(peer.subject, "O=SPIRE,C=US");
        assert_eq!(facts_of_accepted(&svid.chain[0]).unwrap(), peer);
    }
}

/// C1
#[test]
fn a_chain_through_intermediates_is_accepted_in_any_order() {
    let root = ca("demo.org");
    let (first_key, second_key) = (key(), key());
    let first = sign(&root, &intermediate_params("first"), &first_key);
    let second = sign_by(&first, &first_key, &intermediate_params("second"), &second_key);
    let leaf = sign_by(&second, &second_key, &leaf_params(SHOP), &key());
    for chain in
        [vec![leaf.clone(), second.clone(), first.clone()], vec![leaf.clone(), first.clone(), second]]
    {
        assert_eq!(verify_peer(&chain, &trusting(&root), now()).unwrap().id, id(SHOP));
    }
    let gap = verify_peer(&[leaf, first], &trusting(&root), now()).unwrap_err();
    assert_eq!(gap.code(), "untrusted_root");
}

/// C1: an intermediate that is itself in the bundle is a root.
#[test]
fn an_intermediate_in_the_bundle_ends_the_path() {
    let root = ca("demo.org");
    let key_of_intermediate = key();
    let intermediate = sign(&root, &intermediate_params("middle"), &key_of_intermediate);
    let leaf = sign_by(&intermediate, &key_of_intermediate, &leaf_params(SHOP), &key());
    let mut bundle = Bundle::empty(td("demo.org"));
    bundle.x509_authorities.push(intermediate);
    assert!(verify_peer(&[leaf], &BundleSet::of(bundle), now()).is_ok());
}

/// C1: RFC 5280 §6.1.4 k, m, n.
#[test]
fn an_intermediate_must_be_allowed_to_sign() {
    let root = ca("demo.org");
    let chain_through = |intermediate: rcgen::CertificateParams| {
        let key_of_intermediate = key();
        let certificate = sign(&root, &intermediate, &key_of_intermediate);
        let leaf = sign_by(&certificate, &key_of_intermediate, &leaf_params(SHOP), &key());
        verify_peer(&[leaf, certificate], &trusting(&root), now())
    };
    assert!(chain_through(intermediate_params("good")).is_ok());

    let mut not_a_ca = intermediate_params("not a CA");
    not_a_ca.is_ca = IsCa::ExplicitNoCa;
    assert_eq!(chain_through(not_a_ca).unwrap_err().code(), "invalid_chain");

    let mut no_sign = intermediate_params("no keyCertSign");
    no_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(chain_through(no_sign).unwrap_err().code(), "invalid_chain");

    // A path length of zero allows no further CA below this one.
    let (outer_key, inner_key) = (key(), key());
    let mut outer = intermediate_params("outer");
    outer.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let outer = sign(&root, &outer, &outer_key);
    let inner = sign_by(&outer, &outer_key, &intermediate_params("inner"), &inner_key);
    let leaf = sign_by(&inner, &inner_key, &leaf_params(SHOP), &key());
    assert_eq!(
        verify_peer(&[leaf, inner, outer], &trusting(&root), now()).unwrap_err().code(),
        "invalid_chain"
    );
}

/// C2
#[test]
fn exactly_one_uri_name_is_required() {
    let mut none = leaf_params(SHOP);
    none.subject_alt_names = vec![SanType::DnsName("shop.demo.org".try_into().unwrap())];
    assert_eq!(refusal_of(&none), "no_uri_san");

    let mut two = leaf_params(SHOP);
    two.subject_alt_names.push(SanType::URI("https://shop.demo.org".try_into().unwrap()));
    assert_eq!(refusal_of(&two), "multiple_uri_san");

    let mut with_dns = leaf_params(SHOP);
    with_dns.subject_alt_names.push(SanType::DnsName("shop.demo.org".try_into().unwrap()));
    let ca = ca("demo.org");
    let peer = verify_peer(&[sign(&ca, &with_dns, &key())], &trusting(&ca), now()).unwrap();
    assert_eq!(peer.dns_names, ["shop.demo.org"]);
}

/// C3
#[test]
fn a_ca_certificate_is_no_leaf() {
    let mut params = leaf_params(SHOP);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(refusal_of(&params), "leaf_is_ca");
}

/// C4
#[test]
fn a_leaf_must_not_be_able_to_sign_certificates_or_crls() {
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        let mut params = leaf_params(SHOP);
        params.key_usages.push(usage);
        assert_eq!(refusal_of(&params), "leaf_signs_certificates");
    }
    let mut params = leaf_params(SHOP);
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    assert_eq!(refusal_of(&params), "leaf_cannot_sign");
}

/// C5
#[test]
fn the_uri_must_be_a_spiffe_id() {
    for uri in
        ["https://demo.org/shop", "spiffe://Demo.org/shop", "spiffe://demo.org//shop", "spiffe:///shop"]
    {
        assert_eq!(refusal_of(&leaf_params(uri)), "invalid_spiffe_id", "{uri}");
    }
}

/// C6
#[test]
fn a_trust_domains_own_id_is_no_workload() {
    assert_eq!(refusal_of(&leaf_params("spiffe://demo.org")), "no_path");
}

/// C7
#[test]
fn only_the_bundle_of_the_ids_own_trust_domain_counts() {
    let (ours, theirs) = (ca("demo.org"), ca("partner.org"));
    let both: BundleSet = [bundle(&ours), bundle(&theirs)].into_iter().collect();
    // A trusted authority that signs for somebody else's trust domain.
    let forged = sign(&theirs, &leaf_params(SHOP), &key());
    assert_eq!(verify_peer(&[forged], &both, now()).unwrap_err().code(), "untrusted_root");
    let (federated, _) = svid(&theirs, "spiffe://partner.org/agents/x");
    assert!(verify_peer(&federated.chain, &both, now()).is_ok());

    let error = verify_peer(&federated.chain, &trusting(&ours), now()).unwrap_err();
    assert_eq!(error.code(), "unknown_trust_domain");
    assert!(error.to_string().contains("`partner.org`") && error.to_string().contains("known are: demo.org"));
}

/// C9, G6
#[test]
fn an_empty_bundle_trusts_nobody() {
    let ca = ca("demo.org");
    let (svid, _) = svid(&ca, SHOP);
    let empty = BundleSet::of(Bundle::empty(td("demo.org")));
    assert_eq!(verify_peer(&svid.chain, &empty, now()).unwrap_err().code(), "empty_bundle");
}

/// C1, C9: webpki does not look at a root's dates; we do.
#[test]
fn an_expired_root_is_no_root() {
    let ca = ca("demo.org");
    let mut params = leaf_params(SHOP);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let leaf = sign(&ca, &params, &key());
    let later = plus(ca.not_after(), HOUR);
    assert!(verify_peer(std::slice::from_ref(&leaf), &trusting(&ca), ca.not_after()).is_ok());
    let error = verify_peer(&[leaf], &trusting(&ca), later).unwrap_err();
    assert_eq!(error.code(), "empty_bundle");
    assert!(error.to_string().contains("1 held"), "{error}");
}

/// C8: a token signing key accepts no certificates.
#[test]
fn a_jwt_authority_is_no_root() {
    let ca = ca("demo.org");
    let (svid, _) = svid(&ca, SHOP);
    let mut bundle = Bundle::empty(td("demo.org"));
    let signer = crate::jwt::JwtSigner::new("k", ca.key().clone()).unwrap();
    bundle.jwt_authorities.push(signer.jwt_key(None));
    assert_eq!(verify_peer(&svid.chain, &BundleSet::of(bundle), now()).unwrap_err().code(), "empty_bundle");
}

/// C12
#[test]
fn any_extended_key_usage_and_none_is_accepted() {
    let ca = ca("demo.org");
    let cases = [
        vec![],
        vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth],
        vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning],
    ];
    for purposes in cases {
        let mut params = leaf_params(SHOP);
        params.extended_key_usages = purposes;
        assert!(verify_peer(&[sign(&ca, &params, &key())], &trusting(&ca), now()).is_ok());
    }
}

/// C12: go-spiffe's own leaves in tests carry no key usage either.
#[test]
fn a_leaf_without_key_usage_is_accepted() {
    let ca = ca("demo.org");
    let mut params = leaf_params(SHOP);
    params.key_usages.clear();
    assert!(verify_peer(&[sign(&ca, &params, &key())], &trusting(&ca), now()).is_ok());
}

#[test]
fn dates_are_checked_and_explained() {
    let ca = ca("demo.org");
    let (svid, _) = svid(&ca, SHOP);
    let trusted = trusting(&ca);
    assert!(verify_peer(&svid.chain, &trusted, svid.not_after).is_ok());
    assert!(verify_peer(&svid.chain, &trusted, svid.not_before).is_ok());

    let late = verify_peer(&svid.chain, &trusted, plus(svid.not_after, HOUR)).unwrap_err();
    assert_eq!(late.code(), "expired");
    assert!(late.to_string().contains("SVID of `spiffe://demo.org/shop` expired 1h ago"), "{late}");

    let early = verify_peer(&svid.chain, &trusted, minus(svid.not_before, HOUR)).unwrap_err();
    assert_eq!(early.code(), "not_yet_valid");
    assert!(early.to_string().contains("only in 1h"), "{early}");
    assert_eq!(early.presented_id(), Some(&id(SHOP)));
}

#[test]
fn an_expired_intermediate_is_named_as_such() {
    let root = ca("demo.org");
    let key_of_intermediate = key();
    let mut params = intermediate_params("old");
    params.not_after = rcgen::date_time_ymd(2026, 1, 1);
    let intermediate = sign(&root, &params, &key_of_intermediate);
    let leaf = sign_by(&intermediate, &key_of_intermediate, &leaf_params(SHOP), &key());
    let error = verify_peer(&[leaf, intermediate], &trusting(&root), now()).unwrap_err();
    assert_eq!(error.code(), "expired");
    assert!(error.to_string().contains("intermediate CA"), "{error}");
}

#[test]
fn another_root_is_untrusted_and_both_sides_are_named() {
    let (ours, theirs) = (ca("demo.org"), ca("demo.org"));
    let (svid, _) = svid(&theirs, SHOP);
    let error = verify_peer(&svid.chain, &trusting(&ours), now()).unwrap_err();
    assert_eq!(error.code(), "untrusted_root");
    let text = error.to_string();
    assert!(text.contains(ours.authority_id()) && text.contains(theirs.authority_id()), "{text}");
}

/// The same name with another key: the signature decides, not the name.
#[test]
fn a_root_with_our_roots_name_does_not_pass() {
    let ours = ca("demo.org");
    let their_key = key();
    let issuer = rcgen::Issuer::from_ca_cert_der(ours.certificate(), their_key).unwrap();
    let leaf = leaf_params(SHOP).signed_by(&key(), &issuer).unwrap().into();
    assert_eq!(verify_peer(&[leaf], &trusting(&ours), now()).unwrap_err().code(), "bad_signature");
}

#[test]
fn a_self_signed_leaf_is_untrusted() {
    let ours = ca("demo.org");
    let leaf = leaf_params(SHOP).self_signed(&key()).unwrap().into();
    assert_eq!(verify_peer(&[leaf], &trusting(&ours), now()).unwrap_err().code(), "untrusted_root");
}

#[test]
fn chains_are_bounded() {
    let ca = ca("demo.org");
    let (svid, _) = svid(&ca, SHOP);
    let many = vec![svid.chain[0].clone(); MAX_CHAIN + 1];
    assert_eq!(verify_peer(&many, &trusting(&ca), now()).unwrap_err().code(), "chain_too_long");
    assert_eq!(verify_peer(&[], &trusting(&ca), now()).unwrap_err().code(), "no_certificate");
}

/// Bytes after the certificate would change its fingerprint without changing what it says.
#[test]
fn trailing_bytes_are_refused() {
    let ca = ca("demo.org");
    let (svid, _) = svid(&ca, SHOP);
    let longer = CertificateDer::from([svid.chain[0].as_ref(), &[0]].concat());
    assert_eq!(verify_peer(&[longer], &trusting(&ca), now()).unwrap_err().code(), "malformed_certificate");
}

fn fixed() -> &'static (X509Ca, CertificateDer<'static>) {
    static FIXED: std::sync::OnceLock<(X509Ca, CertificateDer<'static>)> = std::sync::OnceLock::new();
    FIXED.get_or_init(|| {
        let ca = ca("demo.org");
        let leaf = svid(&ca, SHOP).0.chain.remove(0);
        (ca, leaf)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..800)) {
        let (ca, _) = fixed();
        prop_assert!(verify_peer(&[CertificateDer::from(bytes)], &trusting(ca), now()).is_err());
    }

    /// No single changed byte of a signed leaf is accepted.
    #[test]
    fn a_damaged_leaf_is_never_accepted(position: prop::sample::Index, change in 1u8..) {
        let (ca, leaf) = fixed();
        let mut der = leaf.to_vec();
        let position = position.index(der.len());
        der[position] ^= change;
        prop_assert!(verify_peer(&[CertificateDer::from(der)], &trusting(ca), now()).is_err());
    }

    #[test]
    fn any_intermediate_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (ca, leaf) = fixed();
        let stranger = CertificateDer::from(bytes);
        prop_assert!(verify_peer(&[leaf.clone(), stranger], &trusting(ca), now()).is_ok());
    }
}
