#![allow(clippy::unwrap_used)]

use svidecar_code::Code;
use svidecar_config::proxy::{AccessLogFormat, AccessLogPath, AccessLogSettings};
use svidecar_policy::{Protocol, Request};
use svidecar_process::clock;

use super::*;
use crate::record::Telemetry;

/// Gives each test an exchange, and then its lines.
fn lines_of(test: impl FnOnce(&mut Recording, &Rc<Origin>, &Policy, &SpiffeId)) -> Vec<serde_json::Value> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let settings =
        AccessLogSettings { format: AccessLogFormat::Json, path: AccessLogPath::File(path.clone()) };
    let telemetry = Telemetry::start(&settings).unwrap();
    let policy = "service: orders\nrules: [{name: later, mode: audit, from: any}, {name: all, from: any}]";
    let policy = Arc::new(Policy::parse(policy, "p.yaml".as_ref(), Protocol::Http).unwrap());
    let peer = SpiffeId::parse("spiffe://demo.org/shop").unwrap();
    let client = Some(([10, 0, 0, 7], 4242).into());
    let origin = Origin::inbound(&"web".into(), &policy, client, Some(&peer));
    let mut exchange = Recording::new(&Rc::new(telemetry.recorder()), &origin);
    test(&mut exchange, &origin, &policy, &peer);
    drop(exchange);
    telemetry.close(std::time::Duration::from_secs(30));
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn head(method: &str, target: &str) -> RequestHead {
    let fields = [("Host", "orders.internal")].into_iter().collect();
    RequestHead { method: method.into(), target: target.into(), fields, ..RequestHead::default() }
}

fn begin(exchange: &mut Recording, origin: &Rc<Origin>, head: &RequestHead) {
    exchange.begin_request(origin, clock::monotonic(), head);
}

#[test]
fn a_request_is_told_whole() {
    let lines = lines_of(|exchange, origin, policy, peer| {
        let mut head = head("POST", "/a/./b?secret");
        begin(exchange, origin, &head);
        head.target = "/a/b?secret".into();
        exchange.normalized(&head);
        exchange.decided(&policy.decide(&Request { peer: Some(peer), ..Request::default() }));
        exchange.forwarded_to("127.0.0.1:8080", None);
        exchange.received(10);
        exchange.received(5);
        exchange.answered(&ResponseHead { status: 200, ..ResponseHead::default() });
        exchange.sent(20);
        exchange.trailers(&[("grpc-status", "7")].into_iter().collect());
        exchange.completed();
        exchange.finish();
    });
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for (field, value) in [
        ("direction", "inbound".into()),
        ("listener", "web".into()),
        ("service", "orders".into()),
        ("peer", "spiffe://demo.org/shop".into()),
        ("client", "10.0.0.7:4242".into()),
        ("method", "POST".into()),
        ("host", "orders.internal".into()),
        ("path", "/a/b".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("grpc_status", 7.into()),
        ("received", 15.into()),
        ("sent", 20.into()),
        ("upstream", "127.0.0.1:8080".into()),
        ("decision", "allow".into()),
        ("rule", "all".into()),
        ("audited", serde_json::json!(["later"])),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert!(line.get("code").is_none());
}

#[test]
fn the_next_request_tells_nothing_of_the_last() {
    let lines = lines_of(|exchange, origin, policy, peer| {
        begin(exchange, origin, &head("POST", "/first"));
        exchange.decided(&policy.decide(&Request { peer: Some(peer), ..Request::default() }));
        exchange.forwarded_to("127.0.0.1:8080", None);
        exchange.received(10);
        exchange.fail(Code::UpstreamClosed, Some("broke off".to_owned()));
        exchange.finish();
        exchange.finish();
        begin(exchange, origin, &RequestHead { method: "GET".into(), ..RequestHead::default() });
        exchange.completed();
        exchange.finish();
    });
    let [first, second] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&first["code"], &first["detail"]), (&"upstream_closed".into(), &"broke off".into()));
    for field in ["upstream", "rule", "code", "detail", "status", "grpc_status"] {
        assert!(second.get(field).is_none(), "{field} in {second}");
    }
    assert_eq!((&second["received"], &second["path"], &second["host"]), (&0.into(), &"".into(), &"".into()));
}

#[test]
fn one_that_still_runs_has_lost_its_client() {
    let lines = lines_of(|exchange, origin, _, _| {
        begin(exchange, origin, &head("GET", "/one"));
        begin(exchange, origin, &head("GET", "/two"));
    });
    assert_eq!(lines.iter().map(|line| &line["code"]).collect::<Vec<_>>(), ["client_closed"; 2]);
}

#[test]
fn the_first_failure_counts() {
    let lines = lines_of(|exchange, origin, _, _| {
        exchange.begin_connection(origin, clock::monotonic());
        exchange.fail(Code::NoLongerAllowed, None);
        exchange.fail(Code::UpstreamClosed, Some("reset".to_owned()));
        exchange.completed();
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["code"], "no_longer_allowed");
    assert!(lines[0].get("method").is_none());
}

#[test]
fn a_refusal_is_told_with_its_reason_and_what_it_cost() {
    let lines = lines_of(|exchange, origin, _, _| {
        let refusal = Refusal::new(Code::DeniedByRule, "rule x");
        for grpc in [false, true] {
            begin(exchange, origin, &head("GET", "/"));
            let mut answer = ResponseHead::default();
            let body = exchange.refuse(&refusal, grpc, &mut answer);
            assert_eq!(body.is_empty(), grpc);
            exchange.finish();
        }
    });
    let [plain, grpc] = &lines[..] else { panic!("{lines:?}") };
    for line in &lines {
        assert_eq!((&line["code"], &line["detail"]), (&"denied_by_rule".into(), &"rule x".into()));
    }
    assert_eq!((&plain["status"], &plain["sent"]), (&403.into(), &"svidecar: denied_by_rule\n".len().into()));
    assert_eq!((&grpc["status"], &grpc["grpc_status"], &grpc["sent"]), (&200.into(), &7.into(), &0.into()));
}

#[test]
fn the_server_is_the_peer_of_an_outbound_request() {
    let lines = lines_of(|exchange, _, _, _| {
        let origin = Origin::outbound(&"to-orders".into(), None);
        for server in ["spiffe://demo.org/orders", "spiffe://demo.org/orders", "spiffe://demo.org/other"] {
            begin(exchange, &origin, &head("GET", "/"));
            exchange.forwarded_to("10.0.0.9:8443", Some(&SpiffeId::parse(server).unwrap()));
            exchange.completed();
        }
        begin(exchange, &origin, &head("GET", "/"));
    });
    let peers: Vec<_> = lines.iter().map(|line| line.get("peer").and_then(|peer| peer.as_str())).collect();
    let (orders, other) = (Some("spiffe://demo.org/orders"), Some("spiffe://demo.org/other"));
    assert_eq!(peers, [orders, orders, other, None]);
    assert_eq!((&lines[0]["service"], &lines[0]["direction"]), (&"to-orders".into(), &"outbound".into()));
}
