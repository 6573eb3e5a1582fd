//! Each rule of a proxy's settings, by a file that breaks it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use svidecar_document::problems::Problems;

use crate::{
    address::ListenAddress,
    load::read_document,
    proxy::{LocalApiSettings, ProxySettings},
    settings::Settings,
};

const INBOUND: &str = "{name: a, listen: 8443, forward: 8080, policy: p.yaml}";

/// `LINE: message` of every problem in a file.
fn problems(text: &str) -> Vec<String> {
    let document =
        read_document::<ProxySettings>(text, Path::new("f.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let mut found = Problems::default();
    document.value.validate(&mut found);
    match document.place(found) {
        Ok(()) => vec![],
        Err(all) => all.iter().map(|one| format!("{}: {}", one.line, one.message)).collect(),
    }
}

fn one(text: &str) -> String {
    let all = problems(text);
    let [only] = all.as_slice() else { panic!("{all:?}") };
    only.clone()
}

/// An inbound listener with one more key.
fn inbound(key: &str) -> String {
    format!("inbound:\n- name: a\n  listen: 8443\n  forward: 8080\n  policy: p.yaml\n  {key}\n")
}

#[test]
fn the_file_of_the_readme_is_fine() {
    let text = r#"
workload_api: unix:///run/svidecar/agent.sock
trust_domain: demo.org
identity: {spiffe_id: spiffe://demo.org/orders, hint: internal}
workers: auto
log: {level: info, format: text}
access_log: {format: json, path: stdout}
admin: {listen: "127.0.0.1:15000"}
drain_timeout: 30s
on_peer_expiry: drain
inbound:
  - name: orders
    listen: 0.0.0.0:8443
    protocol: http
    forward: 127.0.0.1:8080
    policy: policies/orders.yaml
    identity_headers:
      mode: sanitize-set
      append_from: ["spiffe://demo.org/gateway"]
      xfcc_details: [uri, hash]
      spiffe_id_header: x-spiffe-id
      from_path:
        - {id: "spiffe://demo.org/robot/{robot_id}", headers: {x-robot-id: "{robot_id}"}}
    timeouts: {handshake: 10s, connect: 1s, request_headers: 30s, idle: 60s}
    limits: {max_connections: 10000, max_header_bytes: 64KiB, max_headers: 128}
outbound:
  - name: orders
    listen: 127.0.0.1:9001
    protocol: http
    upstream: {endpoints: ["orders.internal:8443"], server_id: ["spiffe://demo.org/orders"]}
"#;
    assert_eq!(problems(text), Vec::<String>::new());
    assert_eq!(problems(""), Vec::<String>::new());
}

#[test]
fn plain_text_stays_on_this_machine_unless_it_is_written_out() {
    let text = inbound("limits: {}").replace("forward: 8080", "forward: 10.0.0.1:8080");
    assert!(one(&text).starts_with("4: 10.0.0.1:8080 is another machine"), "{}", one(&text));
    assert_eq!(problems(&text.replace("limits: {}", "unsafe_forward: true")), Vec::<String>::new());

    let text = "outbound:\n- name: a\n  listen: 0.0.0.0:9001\n  upstream: {endpoints: [a:1], server_id: [\"spiffe://a/b\"]}\n";
    assert!(one(text).starts_with("3: 0.0.0.0:9001 can be reached from other machines"), "{}", one(text));
    assert_eq!(
        problems(&text.replace("  upstream", "  unsafe_listen: true\n  upstream")),
        Vec::<String>::new()
    );

    assert!(one("admin: {listen: 0.0.0.0:1}").contains("whoever reaches it"));
    assert_eq!(problems("admin: {listen: 0.0.0.0:1, unsafe_listen: true}"), Vec::<String>::new());
    assert_eq!(problems("admin: {listen: off}"), Vec::<String>::new());
}

#[test]
fn tokens_are_given_out_on_this_machine_to_somebody_who_is_named() {
    assert_eq!(ProxySettings::default().local_api.address(), None);
    let named = LocalApiSettings { audiences: vec!["orders".to_owned()], ..LocalApiSettings::default() };
    assert!(
        matches!(named.address(), Some(ListenAddress::Unix(path)) if path.ends_with("svidecar/local.sock"))
    );
    assert_eq!(problems("local_api: {audiences: [orders], listen: off}"), Vec::<String>::new());
    assert_eq!(problems("local_api: {audiences: [orders], listen: 127.0.0.1:1}"), Vec::<String>::new());
    assert!(one("local_api: {listen: 127.0.0.1:1}").contains("no token could be given out"));
    assert!(one("local_api: {audiences: [a], listen: 0.0.0.0:1}").contains("from other machines"));
    assert!(one("local_api: {audiences: [\"\"]}").contains("an audience is empty"));
}

#[test]
fn listeners_do_not_share_a_name_or_a_place() {
    let text = format!("inbound:\n- {INBOUND}\n- {INBOUND}\n");
    assert_eq!(
        problems(&text),
        [
            "3: the name `a` is taken by inbound[0]; names are unique",
            "3: 127.0.0.1:8443 is taken by `inbound[0].listen`"
        ]
    );
    assert!(
        one("admin: {listen: 8443}\ninbound: [{name: a, listen: 0.0.0.0:8443, forward: 1, policy: p}]")
            .contains("`admin.listen`")
    );
    assert!(one("inbound: [{name: \"a b\", listen: 8443, forward: 1, policy: p}]").contains("is not a name"));
}

#[test]
fn listeners_do_not_lead_to_themselves() {
    assert!(one(&inbound("limits: {}").replace("8080", "8443")).contains("this listener itself"));
    let text = "outbound: [{name: a, listen: 1, upstream: {endpoints: [\"localhost:1\"], server_id: [\"spiffe://a/b\"]}}]";
    assert!(one(text).contains("this listener itself"));
    assert!(one(&inbound("limits: {}").replace("8080", "0")).contains("port 0"));
}

#[test]
fn our_own_id_is_of_our_trust_domain() {
    let text = "trust_domain: demo.org\nidentity: {spiffe_id: spiffe://other.org/a}";
    assert!(
        one(text).starts_with("2: spiffe://other.org/a is not of the trust domain demo.org"),
        "{}",
        one(text)
    );
}

#[test]
fn http_settings_need_http() {
    let text =
        inbound("protocol: tcp\n  identity_headers: {spiffe_id_header: x-peer}\n  forward_protocol: http2");
    assert_eq!(
        problems(&text),
        [
            "7: headers can only be set with `protocol: http`",
            "8: `forward_protocol` only means something with `protocol: http`"
        ]
    );
}

#[test]
fn identity_headers_are_free_distinct_names() {
    for (header, part) in [("Host", "not free"), ("x-forwarded-client-cert", "not free")] {
        let text = inbound(&format!("identity_headers: {{spiffe_id_header: {header}}}"));
        assert!(one(&text).contains(part), "{header}: {}", one(&text));
    }
    let form = |headers: &str| {
        inbound(&format!(
            "identity_headers: {{from_path: [{{id: \"spiffe://a/{{x}}\", headers: {headers}}}]}}"
        ))
    };
    assert_eq!(problems(&form("{x-a: \"{x}\", x-b: \"no-{x}-part\"}")), Vec::<String>::new());
    for (headers, part) in [
        ("{X_Spiffe_Id: \"{x}\"}", "set twice"),
        ("{x-a: \"1\", X-A: \"2\"}", "set twice"),
        ("{\"x a\": \"{x}\"}", "not a header name"),
        ("{x-a: \"{y}\"}", "its parts: x"),
        ("{x-a: \"{x\"}", "without its `}`"),
        ("{x-a: \"\"}", "printable ASCII"),
        ("{x-a: \"ä\"}", "printable ASCII"),
    ] {
        assert!(one(&form(headers)).contains(part), "{headers}: {}", one(&form(headers)));
    }
    let text = inbound(
        "identity_headers: {mode: sanitize, from_path: [{id: \"spiffe://a/{x}\", headers: {x-a: \"{x}\"}}]}",
    );
    assert!(one(&text).contains("sets no headers"));
}

#[test]
fn waits_and_limits_make_sense() {
    for (key, part) in [
        ("timeouts: {idle: 0s}", "6: a wait of `0s`"),
        ("limits: {max_connections: 0}", "nothing can be served"),
        ("limits: {max_header_bytes: 1KiB}", "expected 8KiB to 16MiB, found 1KiB"),
        ("limits: {max_headers: 1}", "expected 16 to 4096"),
    ] {
        assert!(one(&inbound(key)).contains(part), "{key}: {}", one(&inbound(key)));
    }
}

#[test]
fn a_tunnel_carries_tcp_and_leads_somewhere() {
    let text = "outbound:
- name: db
  listen: 1
  protocol: tcp
  upstream: {endpoints: [\"10.0.0.7:15008\"], server_id: [\"spiffe://a/b\"], tunnel: hbone, destination: 5432}
";
    assert_eq!(problems(text), Vec::<String>::new());
    assert_eq!(problems(&text.replace(", destination: 5432", "")), Vec::<String>::new());
    assert!(one(&text.replace("protocol: tcp", "protocol: http")).contains("carries bytes of any protocol"));
    assert!(one(&text.replace("tunnel: hbone, ", "")).contains("only means something with `tunnel: hbone`"));
    let socket = text.replace("10.0.0.7:15008", "unix:/run/z.sock");
    assert!(one(&socket).contains("has no host"), "{}", one(&socket));
    assert_eq!(problems(&socket.replace("5432", "\"db:5432\"")), Vec::<String>::new());
}
