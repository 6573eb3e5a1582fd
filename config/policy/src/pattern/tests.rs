#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

fn matches(pattern: &str, text: &str) -> bool {
    IdPattern::parse(pattern).unwrap().matches(&id(text))
}

#[test]
fn a_literal_matches_only_itself() {
    assert!(matches("spiffe://demo.org/shop", "spiffe://demo.org/shop"));
    for other in [
        "spiffe://demo.org/shop2",
        "spiffe://demo.org/sho",
        "spiffe://demo.org/shop/x",
        "spiffe://demo.org/Shop",
        "spiffe://demo.org",
        "spiffe://demo.org.evil/shop",
        "spiffe://xdemo.org/shop",
    ] {
        assert!(!matches("spiffe://demo.org/shop", other), "{other}");
    }
}

#[test]
fn a_star_is_one_whole_segment() {
    let pattern = "spiffe://demo.org/ns/*/sa/web";
    assert!(matches(pattern, "spiffe://demo.org/ns/blue/sa/web"));
    assert!(!matches(pattern, "spiffe://demo.org/ns/sa/web"));
    assert!(!matches(pattern, "spiffe://demo.org/ns/a/b/sa/web"));
    assert!(!matches("spiffe://demo.org/*", "spiffe://demo.org/a/b"));
    assert!(!matches("spiffe://demo.org/*", "spiffe://demo.org"));
}

#[test]
fn two_stars_are_the_rest_even_when_nothing_is_left() {
    let pattern = "spiffe://demo.org/agents/**";
    for inside in ["spiffe://demo.org/agents", "spiffe://demo.org/agents/a", "spiffe://demo.org/agents/a/b/c"]
    {
        assert!(matches(pattern, inside), "{inside}");
    }
    assert!(!matches(pattern, "spiffe://demo.org/agentsx/a"));
    assert!(!matches(pattern, "spiffe://other.org/agents/a"));
    assert!(IdPattern::parse("spiffe://demo.org/**").unwrap().is_whole_trust_domain());
    assert!(!IdPattern::parse(pattern).unwrap().is_whole_trust_domain());
}

#[test]
fn captures_have_names_and_values() {
    let pattern = IdPattern::parse("spiffe://demo.org/{tenant}/robot/{robot_id}").unwrap();
    let peer = id("spiffe://demo.org/acme/robot/r2d2");
    assert_eq!(pattern.captures(&peer).unwrap(), [("tenant", "acme"), ("robot_id", "r2d2")]);
    assert_eq!(pattern.capture_names().collect::<Vec<_>>(), ["tenant", "robot_id"]);
    assert_eq!(pattern.captures(&id("spiffe://demo.org/acme/car/r2d2")), None);
}

#[test]
fn only_patterns_without_wildcards_are_exact() {
    assert_eq!(IdPattern::parse("spiffe://demo.org/a").unwrap().exact(), Some(id("spiffe://demo.org/a")));
    assert_eq!(IdPattern::parse("spiffe://demo.org/a/**").unwrap().exact(), None);
    assert_eq!(IdPattern::parse("spiffe://demo.org/*").unwrap().exact(), None);
}

#[test]
fn mistakes_are_explained() {
    for (text, part) in [
        ("demo.org/shop", "begins with spiffe://"),
        ("spiffe://*/shop", "must be written out"),
        ("spiffe://*.demo.org/shop", "must be written out"),
        ("spiffe://Demo.org/shop", "trust domain of the pattern is not valid"),
        ("spiffe://demo.org", "write spiffe://demo.org/**"),
        ("spiffe://demo.org/", "write spiffe://demo.org/**"),
        ("spiffe://demo.org/shop*", "one whole segment"),
        ("spiffe://demo.org/a-{id}", "one whole segment"),
        ("spiffe://demo.org/**/x", "last segment"),
        ("spiffe://demo.org/{}", "is not a capture"),
        ("spiffe://demo.org/{Id}", "is not a capture"),
        ("spiffe://demo.org/{a}/{a}", "twice"),
        ("spiffe://demo.org/a//b", "in no SPIFFE ID"),
        ("spiffe://demo.org/a/", "in no SPIFFE ID"),
        ("spiffe://demo.org/../a", "in no SPIFFE ID"),
        ("spiffe://demo.org/%61", "in no SPIFFE ID"),
    ] {
        let error = IdPattern::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let long = format!("spiffe://demo.org/{}", "a".repeat(MAX_ID_BYTES));
    assert!(matches!(IdPattern::parse(&long), Err(PatternError::TooLong { .. })));
}

#[test]
fn serde_uses_the_written_form() {
    let pattern: IdPattern = serde_json::from_str("\"spiffe://demo.org/a/*\"").unwrap();
    assert_eq!(serde_json::to_string(&pattern).unwrap(), "\"spiffe://demo.org/a/*\"");
    assert!(serde_json::from_str::<IdPattern>("\"spiffe://demo.org/a*\"").is_err());
}

proptest! {
    /// An ID's own text is a pattern that matches it and nothing longer or shorter.
    #[test]
    fn every_id_is_its_own_pattern(segments in prop::collection::vec("[a-zA-Z0-9_-]{1,8}", 1..5), extra in "[a-z]{1,4}") {
        let text = format!("spiffe://demo.org/{}", segments.join("/"));
        let pattern = IdPattern::parse(&text).unwrap();
        prop_assert!(pattern.matches(&id(&text)));
        let (suffixed, nested) = (format!("{text}{extra}"), format!("{text}/{extra}"));
        prop_assert!(!pattern.matches(&id(&suffixed)));
        prop_assert!(!pattern.matches(&id(&nested)));
        prop_assert_eq!(pattern.exact(), Some(id(&text)));
    }

    /// Replacing any one segment by a wildcard still matches, and the capture gives that segment back.
    #[test]
    fn wildcards_widen(segments in prop::collection::vec("[a-zA-Z0-9_-]{1,8}", 1..5), at in any::<prop::sample::Index>()) {
        let peer = id(&format!("spiffe://demo.org/{}", segments.join("/")));
        let at = at.index(segments.len());
        let mut widened = segments.clone();
        widened[at] = "{it}".into();
        let pattern = IdPattern::parse(&format!("spiffe://demo.org/{}", widened.join("/"))).unwrap();
        prop_assert_eq!(pattern.captures(&peer).unwrap(), vec![("it", segments[at].as_str())]);
    }

    #[test]
    fn any_text_is_parsed_without_panic(text in "\\PC{0,80}") {
        let _ = IdPattern::parse(&text);
        let _ = IdPattern::parse(&format!("spiffe://demo.org/{text}"));
    }
}
