#![allow(clippy::unwrap_used)]

mod deciding;
mod loading;

use std::path::Path;

use svidecar_id::SpiffeId;

use crate::{MAX_LIST, Mode, Policy, Protocol, Request, Rule, Verdict, index::IdIndex, pattern::IdPattern};

const ORDERS: &str = r#"
service: orders
default: deny
rules:
  - name: shop-may-order
    from: [spiffe://demo.org/shop, "spiffe://demo.org/ns/*/sa/checkout", "spiffe://partner.example.com/agents/**"]
    to:
      - {methods: [GET, POST], paths: [/orders, "/orders/{id}", "/static/**"]}
  - name: partners-may-read
    from: ["spiffe://partner.example.com/**"]
    to: [{methods: [GET]}]
  - name: no-admin-from-partners
    action: deny
    from: ["spiffe://partner.example.com/**"]
    to: [{paths: ["/admin/**"]}]
  - name: tighten-later
    mode: audit
    action: deny
    from: ["spiffe://demo.org/**"]
    to: [{headers: {x-env: test}}]
tests:
  - {peer: spiffe://demo.org/shop, request: POST /orders, expect: allow, rule: shop-may-order}
  - {peer: spiffe://demo.org/other, request: GET /orders, expect: deny, rule: default}
  - {peer: none, request: GET /orders, expect: deny, rule: unauthenticated}
"#;

fn http_policy(text: &str) -> Policy {
    Policy::parse(text, Path::new("orders.yaml"), Protocol::Http)
        .map_err(|problems| problems.to_string())
        .unwrap()
}

/// The problems of a policy, as they are printed.
fn problems(text: &str, protocol: Protocol) -> String {
    Policy::parse(text, Path::new("p.yaml"), protocol).unwrap_err().to_string()
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

/// Verdict and deciding rule of one request.
fn decide(policy: &Policy, peer: &str, method: &str, path: &str) -> (Verdict, String) {
    let peer = id(peer);
    let request = Request { peer: Some(&peer), method: Some(method), path: Some(path), ..Request::default() };
    let decision = policy.decide(&request);
    (decision.verdict, decision.rule_name().to_owned())
}
