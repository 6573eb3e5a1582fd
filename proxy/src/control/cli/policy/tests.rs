#![allow(clippy::unwrap_used)]

use svidecar_process::command::Failure as _;

use crate::control::cli::tests::{execute_line, file};

use super::*;

pub(in crate::control::cli) const ORDERS: &str = r#"
service: orders
rules:
  - name: shop-may-order
    from: [spiffe://demo.org/shop]
    to: {methods: [GET, POST], paths: ["/orders/**"]}
  - {name: no-admin, action: deny, from: any, to: {paths: ["/admin/**"]}}
tests:
  - {peer: spiffe://demo.org/shop, request: POST /orders, expect: allow}
  - {peer: spiffe://demo.org/other, request: GET /orders, expect: deny}
"#;

#[test]
fn tests_are_run_and_failures_are_placed() {
    let directory = tempfile::tempdir().unwrap();
    let good = file(&directory, "good.yaml", ORDERS);
    let (text, code) = execute_line(&format!("svidecar policy test {}", good.display())).unwrap();
    assert!(text.contains("pass  spiffe://demo.org/shop POST /orders"), "{text}");
    assert!(text.ends_with("good.yaml: 2 passed, 0 failed\n"), "{text}");
    assert_eq!(code, ExitCode::SUCCESS);

    let failing = format!("{ORDERS}  - {{peer: none, request: GET /orders, expect: allow}}\n");
    let bad = file(&directory, "bad.yaml", &failing);
    let (text, code) =
        execute_line(&format!("svidecar policy test {} {}", good.display(), bad.display())).unwrap();
    assert!(text.contains("FAIL  an unauthenticated peer GET /orders"), "{text}");
    assert!(text.contains("bad.yaml:11:5: expected allow, got deny by unauthenticated"), "{text}");
    assert_eq!(code, ExitCode::FAILURE);
}

#[test]
fn tests_of_the_settings_policies_are_found() {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "orders.yaml", ORDERS);
    let tcp = "service: db\nrules: [{name: r, from: any}]\ntests: [{peer: spiffe://d.org/x, expect: allow}]";
    let tcp = file(&directory, "db.yaml", tcp);
    let config = file(
        &directory,
        "proxy.yaml",
        "inbound:\n  - {name: web, listen: 8443, forward: 127.0.0.1:8080, policy: orders.yaml}\n  \
         - {name: db, listen: 8444, protocol: tcp, forward: 127.0.0.1:8081, policy: db.yaml}\n",
    );
    let config = config.display();
    let (text, _) = execute_line(&format!("svidecar policy test --config {config} --output json")).unwrap();
    let outcomes: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(outcomes[1]["tests"][0]["passed"], true);

    let (text, _) = execute_line(&format!("svidecar policy test --tcp {}", tcp.display())).unwrap();
    assert!(text.contains("1 passed, 0 failed"), "{text}");

    let explain = "--peer spiffe://demo.org/shop GET /orders";
    let error = execute_line(&format!("svidecar policy explain --config {config} {explain}")).unwrap_err();
    assert!(error.to_string().contains("choose with --listener: web, db"), "{error}");
    let line = format!("svidecar policy explain --config {config} --listener web {explain}");
    assert_eq!(execute_line(&line).unwrap().1, ExitCode::SUCCESS);
    let line = format!("svidecar policy explain --config {config} --listener nope {explain}");
    assert!(execute_line(&line).unwrap_err().to_string().contains("no such inbound listener"));
    let line = format!("svidecar policy explain --config {config} --listener db --peer spiffe://d.org/x");
    assert!(execute_line(&line).unwrap().0.starts_with("ALLOW by r\n"));
    let line = format!("svidecar policy explain --config {config} --listener db {explain}");
    assert!(execute_line(&line).unwrap_err().to_string().contains("by the peer alone"));
}

#[test]
fn explaining_says_what_each_rule_says() {
    let directory = tempfile::tempdir().unwrap();
    let policy = file(&directory, "orders.yaml", ORDERS);
    let explain = |rest: &str| {
        execute_line(&format!("svidecar policy explain --policy {} {rest}", policy.display())).unwrap()
    };
    let (text, code) = explain("--peer spiffe://demo.org/shop DELETE /orders/../orders/7?x=1");
    assert_eq!(
        text,
        "DENY by default\n\
         no enforced rule matches, and the policy's default is deny\n\
         the path that is matched and forwarded: /orders/7\n\
         \n  no match  shop-may-order  allow          to: method DELETE is not GET, POST\
         \n  no match  no-admin        deny           to: path /orders/7 matches none of /admin/**\n"
    );
    assert_eq!(code, ExitCode::FAILURE);
    let (text, code) = explain("--peer spiffe://demo.org/shop GET /orders");
    assert!(text.starts_with("ALLOW by shop-may-order\n"), "{text}");
    assert_eq!(code, ExitCode::SUCCESS);
    let (text, code) = explain("--peer spiffe://demo.org/shop GET /%2fadmin");
    assert!(text.starts_with("REFUSED with 400 before any rule (ambiguous_path)"), "{text}");
    assert_eq!(code, ExitCode::FAILURE);
    let (text, _) = explain("--peer none --output json GET /orders");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["rule"], "unauthenticated");
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let policy = file(&directory, "orders.yaml", ORDERS);
    for (rest, message) in [
        ("--peer shop GET /orders", "`shop` is not a SPIFFE ID"),
        ("--peer none", "add a method and a path"),
        ("--peer none GET", "add a method and a path"),
        ("--peer none --header x GET /", "is not a header"),
    ] {
        let line = format!("svidecar policy explain --policy {} {rest}", policy.display());
        let error = execute_line(&line).map(|(text, _)| text).unwrap_err();
        assert!(error.to_string().contains(message), "{rest}: {error}");
        assert_eq!(error.exit_code(), ExitCode::from(64));
    }
}
