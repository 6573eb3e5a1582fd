use proptest::prelude::*;

use super::*;

const SHOP: &str = "spiffe://demo.org/shop";
const PARTNER: &str = "spiffe://partner.example.com/agents/a1";

#[test]
fn allow_rules_allow_what_they_name_and_nothing_else() {
    let policy = http_policy(ORDERS);
    for (peer, method, path, verdict, rule) in [
        (SHOP, "GET", "/orders", Verdict::Allow, "shop-may-order"),
        (SHOP, "GET", "/orders/", Verdict::Allow, "shop-may-order"),
        (SHOP, "POST", "/orders/17", Verdict::Allow, "shop-may-order"),
        (SHOP, "GET", "/static/a/b.css", Verdict::Allow, "shop-may-order"),
        (SHOP, "GET", "/static", Verdict::Allow, "shop-may-order"),
        (SHOP, "DELETE", "/orders", Verdict::Deny, "default"),
        (SHOP, "get", "/orders", Verdict::Deny, "default"),
        (SHOP, "GET", "/orders/17/items", Verdict::Deny, "default"),
        (SHOP, "GET", "/ordersx", Verdict::Deny, "default"),
        (SHOP, "GET", "/staticx/a", Verdict::Deny, "default"),
        ("spiffe://demo.org/ns/blue/sa/checkout", "GET", "/orders", Verdict::Allow, "shop-may-order"),
        ("spiffe://demo.org/ns/a/b/sa/checkout", "GET", "/orders", Verdict::Deny, "default"),
        ("spiffe://demo.org/shop2", "GET", "/orders", Verdict::Deny, "default"),
        ("spiffe://demo.orgx/shop", "GET", "/orders", Verdict::Deny, "default"),
    ] {
        assert_eq!(decide(&policy, peer, method, path), (verdict, rule.to_owned()), "{peer} {method} {path}");
    }
}

#[test]
fn deny_rules_win_and_the_first_rule_of_the_file_is_named() {
    let policy = http_policy(ORDERS);
    assert_eq!(decide(&policy, PARTNER, "GET", "/orders"), (Verdict::Allow, "shop-may-order".into()));
    assert_eq!(decide(&policy, PARTNER, "GET", "/else"), (Verdict::Allow, "partners-may-read".into()));
    for path in ["/admin", "/admin/", "/admin/users"] {
        assert_eq!(
            decide(&policy, PARTNER, "GET", path),
            (Verdict::Deny, "no-admin-from-partners".into()),
            "{path}"
        );
    }
}

#[test]
fn an_unauthenticated_peer_matches_nothing_not_even_an_allowing_default() {
    let policy = http_policy("service: s\ndefault: allow\nrules: [{name: all, from: any}]");
    let decision = policy.decide(&Request { method: Some("GET"), path: Some("/"), ..Request::default() });
    assert!(!decision.is_allowed());
    assert_eq!((decision.rule_name(), decision.rule()), ("unauthenticated", None));
    assert_eq!(decide(&policy, SHOP, "GET", "/"), (Verdict::Allow, "all".into()));
}

#[test]
fn the_default_is_deny_unless_it_is_written() {
    assert_eq!(decide(&http_policy("service: s"), SHOP, "GET", "/"), (Verdict::Deny, "default".into()));
    let open = http_policy("service: s\ndefault: allow");
    assert_eq!(decide(&open, SHOP, "GET", "/"), (Verdict::Allow, "default".into()));
}

#[test]
fn audit_rules_are_reported_and_decide_nothing() {
    let policy = http_policy(ORDERS);
    let peer = id(SHOP);
    let mut headers = http::HeaderMap::new();
    headers.insert("x-env", http::HeaderValue::from_static("test"));
    let request = Request {
        peer: Some(&peer),
        method: Some("GET"),
        path: Some("/orders"),
        headers: Some(&headers),
        ..Request::default()
    };
    let decision = policy.decide(&request);
    assert_eq!(decision.rule_name(), "shop-may-order");
    let audited: Vec<_> = decision.audited.iter().map(|rule| (rule.name().as_str(), rule.action())).collect();
    assert_eq!(audited, [("tighten-later", Verdict::Deny)]);
    headers.clear();
    assert!(policy.decide(&Request { headers: Some(&headers), ..request_of(&peer) }).audited.is_empty());
}

fn request_of(peer: &SpiffeId) -> Request<'_> {
    Request { peer: Some(peer), method: Some("GET"), path: Some("/"), ..Request::default() }
}

#[test]
fn an_audit_rule_that_is_found_twice_is_reported_once() {
    let policy = http_policy(
        "service: s\nrules: [{name: a, mode: audit, from: ['spiffe://demo.org/**', 'spiffe://demo.org/*', 'spiffe://demo.org/shop']}]",
    );
    let peer = id(SHOP);
    assert_eq!(policy.decide(&request_of(&peer)).audited.iter().count(), 1);
}

/// A header given twice must not help: an allow rule wants only its value, a deny rule finds it anywhere.
#[test]
fn headers_given_twice_never_help() {
    let policy = http_policy(
        "service: s\nrules:\n\
         - {name: no-test, action: deny, from: any, to: {headers: {x-env: test}}}\n\
         - {name: prod, from: any, to: {headers: {x-env: [prod, staging]}}}\n",
    );
    let peer = id(SHOP);
    let verdict = |values: &[&'static str]| {
        let mut headers = http::HeaderMap::new();
        for value in values {
            headers.append("x-env", http::HeaderValue::from_static(value));
        }
        policy.decide(&Request { headers: Some(&headers), ..request_of(&peer) }).rule_name().to_owned()
    };
    assert_eq!(verdict(&["prod"]), "prod");
    assert_eq!(verdict(&["staging"]), "prod");
    assert_eq!(verdict(&["prod", "dev"]), "default");
    assert_eq!(verdict(&["prod", "test"]), "no-test");
    assert_eq!(verdict(&[]), "default");
    assert_eq!(policy.decide(&request_of(&peer)).rule_name(), "default");
}

/// What an application that makes variables of headers would take for the header of the rule.
#[test]
fn headers_that_read_alike_never_help() {
    let policy = http_policy(
        "service: s\nrules:\n\
         - {name: no-test, action: deny, from: any, to: {headers: {x-env: test}}}\n\
         - {name: no-old, action: deny, from: any, to: {headers: {x_old: '1'}}}\n\
         - {name: prod, from: any, to: {headers: {x-env: prod}}}\n",
    );
    let peer = id(SHOP);
    let verdict = |fields: &[(&'static str, &'static str)]| {
        let mut headers = http::HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        policy.decide(&Request { headers: Some(&headers), ..request_of(&peer) }).rule_name().to_owned()
    };
    for name in ["x_env", "x.env", "x-env"] {
        assert_eq!(verdict(&[(name, "test")]), "no-test", "{name}");
        assert_eq!(verdict(&[("x-env", "prod"), (name, "test")]), "no-test", "{name}");
    }
    assert_eq!(verdict(&[("x-old", "1"), ("x-env", "prod")]), "no-old");
    // It is not the header that the rule allows, and beside it not alone.
    assert_eq!(verdict(&[("x_env", "prod")]), "default");
    assert_eq!(verdict(&[("x-env", "prod"), ("x_env", "dev")]), "default");
    assert_eq!(verdict(&[("x-env", "prod"), ("x-envy", "test")]), "prod");
}

/// A request without a host has a value of its own, which a rule can name.
#[test]
fn a_host_that_is_missing_can_be_named() {
    let policy = http_policy(
        "service: s\nrules:\n\
         - {name: no-admin, action: deny, from: any, to: {hosts: [admin.internal., '']}}\n\
         - {name: all, from: any}\n",
    );
    let peer = id(SHOP);
    let rule = |host| policy.decide(&Request { host, ..request_of(&peer) }).rule_name().to_owned();
    for host in [None, Some("admin.internal"), Some("ADMIN.internal.:80"), Some("admin.internal..")] {
        assert_eq!(rule(host), "no-admin", "{host:?}");
    }
    assert_eq!(rule(Some("orders.internal")), "all");
}

#[test]
fn a_rule_is_found_again_by_its_index() {
    let policy = http_policy(ORDERS);
    assert!(policy.rules().len() > 1);
    assert!(policy.rules().iter().map(Rule::index).eq(0..policy.rules().len()));
}

#[test]
fn a_policy_knows_whether_it_reads_headers() {
    assert!(http_policy(ORDERS).reads_headers());
    assert!(!http_policy("service: s\nrules: [{name: r, from: any, to: {methods: [GET]}}]").reads_headers());
}

#[test]
fn hosts_ignore_case_port_and_final_dot() {
    let policy = http_policy(
        "service: s\nrules: [{name: r, from: any, to: {hosts: [orders.example.org, '*.shop.org', '[::1]']}}]",
    );
    let peer = id(SHOP);
    let allowed = |host| policy.decide(&Request { host: Some(host), ..request_of(&peer) }).is_allowed();
    for host in [
        "orders.example.org",
        "Orders.Example.ORG:8443",
        "orders.example.org.",
        "orders.example.org..:80",
        "a.shop.org:1",
        "[::1]:80",
        "[::1]",
    ] {
        assert!(allowed(host), "{host}");
    }
    for host in [
        "example.org",
        "a.b.shop.org",
        "shop.org",
        ".shop.org",
        "xorders.example.org",
        "orders.example.org.evil.net",
        "[::2]",
    ] {
        assert!(!allowed(host), "{host}");
    }
}

/// Deny rules must see through every spelling that the application would decode.
#[test]
fn encoded_reserved_characters_do_not_slip_past() {
    let policy = http_policy(
        "service: s\ndefault: allow\nrules: [{name: d, action: deny, from: any, to: {paths: ['/v1/items:delete', '/caf\u{e9}', '/%61']}}]",
    );
    for path in ["/v1/items:delete", "/v1/items%3Adelete", "/caf%C3%A9", "/a"] {
        assert_eq!(decide(&policy, SHOP, "POST", path).0, Verdict::Deny, "{path}");
    }
    assert_eq!(decide(&policy, SHOP, "POST", "/v1/items").0, Verdict::Allow);
}

#[test]
fn a_tcp_policy_decides_by_peer_alone() {
    let text = "service: db\nrules: [{name: app, from: [spiffe://demo.org/app]}]\ntests: [{peer: spiffe://demo.org/app, expect: allow}]";
    let policy = Policy::parse(text, Path::new("db.yaml"), Protocol::Tcp).unwrap();
    let peer = id("spiffe://demo.org/app");
    assert!(policy.decide(&Request { peer: Some(&peer), ..Request::default() }).is_allowed());
}

/// Ten thousand rules cost what ten do: the index looks at the rules that name the peer, and at no others.
#[test]
fn the_index_visits_only_rules_that_name_the_peer() {
    let mut index = IdIndex::default();
    for at in 0..10_000 {
        index.add(&IdPattern::parse(&format!("spiffe://demo.org/w{at}")).unwrap(), at);
        index.add(&IdPattern::parse(&format!("spiffe://demo.org/ns{at}/*/x")).unwrap(), at);
    }
    index.add(&IdPattern::parse("spiffe://demo.org/*").unwrap(), 20_000);
    let mut visited = Vec::new();
    index.visit(&id("spiffe://demo.org/w77"), &mut |at| visited.push(at));
    assert_eq!(visited, [77, 20_000]);
}

#[test]
fn explain_names_every_rule_and_the_part_that_failed() {
    let policy = http_policy(ORDERS);
    let peer = id("spiffe://demo.org/shop");
    let request =
        Request { peer: Some(&peer), method: Some("DELETE"), path: Some("/orders"), ..Request::default() };
    let explanation = policy.explain(&request);
    assert_eq!((explanation.verdict, explanation.rule.as_str()), (Verdict::Deny, "default"));
    assert!(!explanation.decided_by_rule());
    let whys: Vec<_> = explanation.rules.iter().map(|rule| (rule.name.as_str(), rule.why.as_str())).collect();
    assert_eq!(
        whys,
        [
            ("shop-may-order", "to: method DELETE is not GET, POST"),
            (
                "partners-may-read",
                "from: spiffe://demo.org/shop is of the trust domain demo.org; the rule names spiffe://partner.example.com/**"
            ),
            (
                "no-admin-from-partners",
                "from: spiffe://demo.org/shop is of the trust domain demo.org; the rule names spiffe://partner.example.com/**"
            ),
            ("tighten-later", "to: header x-env is missing"),
        ]
    );
    let allowed = policy.explain(&Request { method: Some("GET"), ..request });
    assert_eq!(allowed.because, "the allow rule shop-may-order (line 5) matches and no deny rule does");
    assert_eq!(
        allowed.rules[0].why,
        "from: spiffe://demo.org/shop matches spiffe://demo.org/shop; to: entry 1 matches"
    );
}

/// A pattern made from `id` by replacing segments, so that matches are frequent.
fn pattern_like() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "c", "*", "{x}"]);
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, rest)| {
        if let Some(first) = segments.iter().position(|s| *s == "{x}") {
            segments.iter_mut().skip(first + 1).filter(|s| **s == "{x}").for_each(|s| *s = "*");
        }
        if rest || segments.is_empty() {
            segments.push("**");
        }
        format!("spiffe://demo.org/{}", segments.join("/"))
    })
}

proptest! {
    /// The index finds exactly the patterns that match one by one.
    #[test]
    fn the_index_agrees_with_the_patterns(
        patterns in prop::collection::vec(pattern_like(), 1..20),
        segments in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 1..5),
    ) {
        let peer = id(&format!("spiffe://demo.org/{}", segments.join("/")));
        let parsed: Vec<_> = patterns.iter().map(|text| IdPattern::parse(text).unwrap()).collect();
        let mut index = IdIndex::default();
        parsed.iter().enumerate().for_each(|(at, pattern)| index.add(pattern, at));
        let mut found = Vec::new();
        index.visit(&peer, &mut |at| found.push(at));
        found.sort_unstable();
        let expected: Vec<_> = (0..parsed.len()).filter(|at| parsed[*at].matches(&peer)).collect();
        prop_assert_eq!(found, expected);
    }

    /// Explaining looks at every rule and must come to the verdict that deciding comes to.
    #[test]
    fn explaining_agrees_with_deciding(
        path in prop::sample::select(vec!["/orders", "/orders/1", "/admin/x", "/static/a/b", "/"]),
        method in prop::sample::select(vec!["GET", "POST", "DELETE"]),
        peer in prop::sample::select(vec![SHOP, PARTNER, "spiffe://demo.org/ns/x/sa/checkout", "spiffe://x.org/a"]),
    ) {
        let policy = http_policy(ORDERS);
        let peer = id(peer);
        let request = Request { peer: Some(&peer), method: Some(method), path: Some(path), ..Request::default() };
        let (decision, explanation) = (policy.decide(&request), policy.explain(&request));
        prop_assert_eq!(decision.verdict, explanation.verdict);
        let matched = |action| explanation.rules.iter().any(|r| r.matched && r.mode == Mode::Enforce && r.action == action);
        let expected = if matched(Verdict::Deny) || !matched(Verdict::Allow) { Verdict::Deny } else { Verdict::Allow };
        prop_assert_eq!(explanation.verdict, expected);
    }
}
