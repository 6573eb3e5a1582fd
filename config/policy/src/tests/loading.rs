use proptest::prelude::*;

use super::*;

/// One rule with the given inside.
fn rule(inside: &str) -> String {
    format!("service: s\nrules:\n  - {{name: r, {inside}}}\n")
}

#[test]
fn all_problems_come_at_once_with_line_and_column() {
    let text = "\
service: orders
defualt: deny
rules:
  - name: a
    form: [spiffe://demo.org/shop]
    action: alow
  - name: a
    from: [spiffe://demo.org/x*, spiffe://demo.org]
  - from: any
    to: [{method: [GET]}, {paths: []}]
  - name: b
    from: []
    when: 'true'
tests:
  - {peer: none, request: GET /, expect: alow, rule: c}
  - {peer: none, expect: allow, rule: b, headers: {'x y': z}}
";
    let printed = problems(text, Protocol::Http);
    for expected in [
        "p.yaml:2:1: unknown key `defualt` at the top level",
        "did you mean `default`?",
        "p.yaml:5:5: unknown key `form` in `rules[0]`",
        "did you mean `from`?",
        "p.yaml:6:13: `rules[0].action`: expected one of allow, deny, found `alow`",
        "did you mean `allow`?",
        "p.yaml:8:12: `rules[1].from[0]`: `spiffe://demo.org/x*`:",
        "p.yaml:8:34: `rules[1].from[1]`: `spiffe://demo.org`:",
        "p.yaml:9:5: `rules[2].name` is missing",
        "help: Name the rule",
        "p.yaml:10:11: unknown key `method` in `rules[2].to[0]`",
        "did you mean `methods`?",
        "p.yaml:7:5: the rule `a` exists already, at line 4",
        "p.yaml:10:35: `paths` is empty",
        "p.yaml:12:11: `from` is empty",
        "p.yaml:13:5: `when` is not supported yet",
        "p.yaml:15:42: `tests[0].expect`: expected one of allow, deny",
        "p.yaml:15:54: the policy has no rule named `c`",
        "p.yaml:16:5: `request` is missing",
        "p.yaml:16:52: \"x y\" is not the name of a header",
    ] {
        assert!(printed.contains(expected), "{expected} is not in:\n{printed}");
    }
    assert!(!printed.contains("`rules[0].from` is missing"), "it is misspelt:\n{printed}");
}

/// A rule whose `to` was forgotten is not one about every request.
#[test]
fn a_key_without_a_value_is_a_mistake() {
    for (text, place) in [
        (rule("from: any, to: "), "p.yaml:3:28: `rules[0].to`: expected"),
        (rule("from: "), "p.yaml:3:19: `rules[0].from`: expected one of any, or text such as"),
        (rule("from: any, action: ~"), "p.yaml:3:34: `rules[0].action`: expected one of allow, deny"),
        (rule("from: any, to: {paths: null}"), "p.yaml:3:38: `rules[0].to.paths`: expected text such as"),
        ("service: s\ndefault:\n".into(), "p.yaml:2:8: `default`: expected one of allow, deny"),
    ] {
        let printed = problems(&text, Protocol::Http);
        assert!(printed.starts_with(place) && printed.contains("found nothing"), "{text}\ngives {printed}");
    }
}

#[test]
fn rules_that_could_never_match_are_errors() {
    for (text, message) in [
        (rule("from: []"), "`from` is empty, so the rule could never match"),
        (rule("from: [any]"), "write `from: any`, alone"),
        (rule("from: '*'"), "write `from: any`, alone"),
        (rule("from: any, to: []"), "`to` is empty"),
        (rule("from: any, to: [{}]"), "an entry of `to` is empty"),
        (rule("from: any, to: [{methods: []}]"), "`methods` is empty"),
        (rule("from: any, to: [{methods: [get]}]"), "requests have GET"),
        (rule("from: any, to: [{methods: ['G T']}]"), "a method is a word"),
        (rule("from: any, to: [{paths: [orders]}]"), "a path begins with /"),
        (rule("from: any, to: [{paths: [/a//b]}]"), "slashes are merged"),
        (rule("from: any, to: [{paths: [/a/../b]}]"), "dot segments are resolved"),
        (rule("from: any, to: [{paths: [/a/%2e%2e/b]}]"), "dot segments are resolved"),
        (rule("from: any, to: [{paths: ['/a?b=c']}]"), "the query is not part"),
        (rule("from: any, to: [{paths: [/a%2fb]}]"), "is refused"),
        (rule("from: any, to: [{paths: [/a%zz]}]"), "two hex digits"),
        (rule("from: any, to: [{paths: [/a*]}]"), "one whole segment"),
        (rule("from: any, to: [{paths: ['/**/a']}]"), "last segment"),
        (rule("from: any, to: [{hosts: ['a.org:80']}]"), "without their port"),
        (rule("from: any, to: [{hosts: ['a.*.org']}]"), "at the beginning of a host"),
        (rule("from: any, to: [{hosts: ['http://a.org']}]"), "a DNS name or an IP address"),
        (rule("from: any, to: [{headers: {'x y': z}}]"), "not the name of a header"),
        (rule("from: any, to: [{headers: {}}]"), "`headers` is empty"),
        (rule("from: any, when: 'true'"), "`when` is not supported yet in this version"),
        ("service: s\nrules: [{name: default, from: any}]".into(), "no rule can be named `default`"),
        ("service: s\nrules: [{name: 'a b', from: any}]".into(), "letters, digits"),
        (
            "service: s\nrules: [{name: a, from: any}, {name: a, from: any}]".into(),
            "exists already, at line 2",
        ),
        ("rules: []".into(), "`service` is missing"),
        ("service: s\nservice: t".into(), "the key `service` is here for the second time"),
        ("- a".into(), "expected keys with values, found a list"),
        (String::new(), "`service` is missing"),
        ("service: [".into(), "this is not YAML"),
    ] {
        let printed = problems(&text, Protocol::Http);
        assert!(printed.contains(message), "{text}\ngives {printed}\nwithout {message}");
    }
}

#[test]
fn http_matchers_on_a_tcp_listener_are_errors_where_they_stand() {
    let printed = problems(
        "service: db\nrules:\n  - name: r\n    from: any\n    to:\n      - methods: [GET]\n        paths: [/]\n",
        Protocol::Tcp,
    );
    assert!(printed.contains("p.yaml:6:9: `methods` asks what only HTTP can answer"), "{printed}");
    assert!(printed.contains("p.yaml:7:9: `paths` asks what only HTTP can answer"), "{printed}");
    let printed = problems("service: db\ntests: [{peer: none, request: GET /, expect: deny}]", Protocol::Tcp);
    assert!(printed.contains("a test of a tcp listener has no request"), "{printed}");
}

#[test]
fn tests_of_a_policy_must_pass_before_it_is_accepted() {
    let failing = format!(
        "{ORDERS}  - {{peer: spiffe://demo.org/shop, request: DELETE /orders, expect: allow}}\n  \
         - {{peer: spiffe://demo.org/shop, request: GET /orders, expect: allow, rule: default}}\n"
    );
    let printed = problems(&failing, Protocol::Http);
    assert!(
        printed.contains(
            "test failed: spiffe://demo.org/shop DELETE /orders: expected allow, got deny by default"
        ),
        "{printed}"
    );
    assert!(printed.contains("expected allow by default, got allow by shop-may-order"), "{printed}");
    let outcomes = Policy::parse_untested(&failing, Path::new("p.yaml"), Protocol::Http).unwrap().run_tests();
    assert_eq!(outcomes.iter().map(|o| o.passed).collect::<Vec<_>>(), [true, true, true, false, false]);
}

#[test]
fn tests_normalize_like_requests() {
    let text = "\
service: s
rules: [{name: d, action: deny, from: any, to: {paths: ['/admin/**']}}, {name: a, from: any}]
tests:
  - {peer: spiffe://d.org/x, request: 'GET /x/../%61dmin/y?q=1', expect: deny, rule: d}
  - {peer: spiffe://d.org/x, request: GET /%2fadmin, expect: deny}
  - {peer: spiffe://d.org/x, request: 'GET /public?next=/admin/', expect: allow, rule: a}
  - {peer: spiffe://d.org/x, request: GET /, host: a.org, headers: {x-a: b}, expect: allow}
";
    http_policy(text);
}

#[test]
fn mistakes_in_tests_are_explained() {
    for (test, message) in [
        ("{request: GET /, expect: allow}", "`tests[0].peer` is missing"),
        ("{peer: shop, request: GET /, expect: allow}", "`shop` is not a SPIFFE ID"),
        ("{peer: none, expect: allow}", "`request` is missing"),
        ("{peer: none, request: /orders, expect: allow}", "is not a request"),
        ("{peer: none, request: GET orders, expect: allow}", "is not a request"),
        ("{peer: none, request: GET /}", "`tests[0].expect` is missing"),
        ("{peer: none, request: GET /, expect: maybe}", "expected one of allow, deny"),
        ("{peer: none, request: GET /, expect: deny, rule: x}", "no rule named `x`"),
        ("{peer: none, request: GET /, expct: deny, expect: deny}", "did you mean `expect`?"),
    ] {
        let printed = problems(&format!("service: s\ntests: [{test}]"), Protocol::Http);
        assert!(printed.contains(message), "{test}: {printed}");
    }
}

#[test]
fn inputs_have_bounds() {
    let long = format!("service: s\n#{}", "x".repeat(svidecar_document::yaml::MAX_BYTES));
    assert!(problems(&long, Protocol::Http).contains("at most"));
    let entries = vec!["spiffe://d.org/a"; MAX_LIST + 1].join(", ");
    assert!(problems(&rule(&format!("from: [{entries}]")), Protocol::Http).contains("at most 1000"));
    let deep = format!("service: {}", "[".repeat(200));
    assert!(!problems(&deep, Protocol::Http).is_empty());
}

/// The example of the documentation is a policy, and its tests pass.
#[test]
fn the_documented_example_is_accepted() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md")).unwrap();
    let (_, example) = page.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    assert_eq!(http_policy(example).run_tests().len(), 3);
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "[ \\n\\[\\]{}:,'\"&*!|>a-z/-]{0,200}") {
        let _ = Policy::parse(&text, Path::new("p.yaml"), Protocol::Http);
        let _ = Policy::parse(&format!("service: s\nrules:\n{text}"), Path::new("p.yaml"), Protocol::Tcp);
    }
}
