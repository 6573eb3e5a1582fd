//! The grammar, by the numbers of section A of the SPIFFE checklist.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn error(text: &str) -> IdError {
    SpiffeId::parse(text).unwrap_err()
}

/// A1, A18: only the lowercase scheme.
#[test]
fn a1_scheme_is_spiffe() {
    assert_eq!(error("https://demo.org/x"), IdError::Scheme);
    assert_eq!(error("SPIFFE://demo.org/x"), IdError::Scheme);
    assert_eq!(error("spiffe:/demo.org/x"), IdError::Scheme);
    assert_eq!(error(""), IdError::Empty);
}

/// A2: the trust domain is not empty.
#[test]
fn a2_trust_domain_is_not_empty() {
    assert_eq!(error("spiffe://"), IdError::EmptyTrustDomain);
    assert_eq!(error("spiffe:///x"), IdError::EmptyTrustDomain);
}

/// A3, A4: no query, no fragment, not even empty ones, in either place.
#[test]
fn a3_a4_no_query_no_fragment() {
    assert_eq!(error("spiffe://demo.org/x?"), IdError::PathCharacter { found: '?' });
    assert_eq!(error("spiffe://demo.org/x?a=b"), IdError::PathCharacter { found: '?' });
    assert_eq!(error("spiffe://demo.org?"), IdError::TrustDomainCharacter { found: '?' });
    assert_eq!(error("spiffe://demo.org/x#"), IdError::PathCharacter { found: '#' });
    assert_eq!(error("spiffe://demo.org#f"), IdError::TrustDomainCharacter { found: '#' });
}

/// A5, A6: no user info, no port, not even empty ones.
#[test]
fn a5_a6_no_userinfo_no_port() {
    assert_eq!(error("spiffe://user@demo.org/x"), IdError::TrustDomainCharacter { found: '@' });
    assert_eq!(error("spiffe://@demo.org/x"), IdError::TrustDomainCharacter { found: '@' });
    assert_eq!(error("spiffe://demo.org:8080/x"), IdError::TrustDomainCharacter { found: ':' });
    assert_eq!(error("spiffe://demo.org:/x"), IdError::TrustDomainCharacter { found: ':' });
}

/// A7, A8, A9: lowercase, `[a-z0-9._-]`, no percent-encoding; an IPv4 address is a legal name, IPv6 is not.
#[test]
fn a7_a8_a9_trust_domain_characters() {
    assert_eq!(error("spiffe://Demo.org/x"), IdError::TrustDomainCharacter { found: 'D' });
    assert_eq!(error("spiffe://[::1]/x"), IdError::TrustDomainCharacter { found: '[' });
    assert_eq!(error("spiffe://dem%6f.org/x"), IdError::TrustDomainCharacter { found: '%' });
    assert_eq!(error("spiffe://dömö.org/x"), IdError::TrustDomainCharacter { found: 'ö' });
    for ok in ["spiffe://a_b-c.d0/x", "spiffe://..--__/x"] {
        assert!(SpiffeId::parse(ok).is_ok(), "{ok}");
    }
}

/// A10: a name that looks like an address or a host is a name like any other.
#[test]
fn a10_no_meaning_in_the_name() {
    assert_eq!(SpiffeId::parse("spiffe://127.0.0.1/x").unwrap().trust_domain_str(), "127.0.0.1");
    assert_eq!(SpiffeId::parse("spiffe://not-a-dns-name_/x").unwrap().path(), "/x");
}

/// A11, A14: path characters.
#[test]
fn a11_a14_path_characters() {
    assert_eq!(error("spiffe://demo.org/%41"), IdError::PathCharacter { found: '%' });
    assert_eq!(error("spiffe://demo.org/a b"), IdError::PathCharacter { found: ' ' });
    assert_eq!(error("spiffe://demo.org/a\0"), IdError::PathCharacter { found: '\0' });
    assert!(SpiffeId::parse("spiffe://demo.org/AZaz09.-_/...").is_ok());
}

/// A12, A13: no empty or dot segments, no trailing slash.
#[test]
fn a12_a13_segments() {
    assert_eq!(error("spiffe://demo.org//x"), IdError::EmptySegment);
    assert_eq!(error("spiffe://demo.org/a//b"), IdError::EmptySegment);
    assert_eq!(error("spiffe://demo.org/./b"), IdError::DotSegment);
    assert_eq!(error("spiffe://demo.org/a/.."), IdError::DotSegment);
    assert_eq!(error("spiffe://demo.org/"), IdError::TrailingSlash);
    assert_eq!(error("spiffe://demo.org/a/"), IdError::TrailingSlash);
}

/// A15, A17: 2048 bytes are accepted, one more is not; a name has at most 255.
#[test]
fn a15_a17_lengths() {
    let longest = format!("spiffe://demo.org/{}", "x".repeat(crate::MAX_ID_BYTES - 18));
    assert_eq!(longest.len(), 2048);
    assert!(SpiffeId::parse(&longest).is_ok());
    assert_eq!(error(&format!("{longest}x")), IdError::TooLong { bytes: 2049 });
    assert!(SpiffeId::parse(&format!("spiffe://{}/x", "d".repeat(255))).is_ok());
    assert_eq!(error(&format!("spiffe://{}/x", "d".repeat(256))), IdError::TrustDomainTooLong { bytes: 256 });
}

/// A16: an ID that would be too long is not made.
#[test]
fn a16_never_generates_a_longer_one() {
    let td = TrustDomain::parse("demo.org").unwrap();
    assert!(matches!(SpiffeId::new(&td, &format!("/{}", "x".repeat(2048))), Err(IdError::TooLong { .. })));
    assert_eq!(SpiffeId::new(&td, "x"), Err(IdError::RelativePath));
    assert_eq!(SpiffeId::new(&td, "/x").unwrap().as_str(), "spiffe://demo.org/x");
    assert_eq!(SpiffeId::new(&td, "").unwrap(), td.id());
}

/// A18: the path is compared with its case.
#[test]
fn a18_path_is_case_sensitive() {
    assert_ne!(SpiffeId::parse("spiffe://demo.org/A"), SpiffeId::parse("spiffe://demo.org/a"));
}

#[test]
fn lenient_trust_domain_takes_both_forms() {
    for text in ["demo.org", "spiffe://demo.org", "spiffe://demo.org/x"] {
        assert_eq!(TrustDomain::parse_lenient(text).unwrap().as_str(), "demo.org");
    }
    assert!(TrustDomain::parse_lenient("https://demo.org").is_err());
}

#[test]
fn serde_is_the_text() {
    let id: SpiffeId = serde_json::from_str("\"spiffe://demo.org/x\"").unwrap();
    assert_eq!(serde_json::to_string(&id).unwrap(), "\"spiffe://demo.org/x\"");
    let error = serde_json::from_str::<SpiffeId>("\"spiffe://demo.org/\"").unwrap_err();
    assert!(error.to_string().contains("drop the slash"), "{error}");
}

proptest! {
    #[test]
    fn whatever_fits_the_grammar_parses_and_prints_the_same(
        td in "[a-z0-9._-]{1,40}", segments in prop::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,12}", 0..6)
    ) {
        let path: String = segments.iter().map(|s| format!("/{s}")).collect();
        let text = format!("spiffe://{td}{path}");
        let id = SpiffeId::parse(&text).unwrap();
        prop_assert_eq!(id.to_string(), text);
        prop_assert_eq!(id.path(), path);
        prop_assert_eq!(id.segments().collect::<Vec<_>>(), segments);
        let domain = id.trust_domain();
        prop_assert_eq!(domain.as_str(), &td);
        prop_assert_eq!(SpiffeId::new(&domain, id.path()).unwrap(), id);
    }

    #[test]
    fn what_parses_is_canonical(text in "\\PC{0,60}") {
        for text in [text.clone(), format!("spiffe://{text}"), format!("spiffe://demo.org/{text}")] {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_:".contains(&b)));
            }
        }
    }
}
