#![allow(clippy::unwrap_used)]

use std::time::Duration;

use svidecar_code::Code;
use svidecar_id::SpiffeId;
use svidecar_policy::{Policy, Protocol, Request};
use svidecar_process::{clock, throttle::Leave};

use super::*;
use crate::{
    message::Version,
    record::{Decided, Direction, HttpFacts, Ruling},
};

fn record<'a>(listener: &'a str, peer: Option<&'a SpiffeId>, decided: Option<Ruling<'a>>) -> Record<'a> {
    Record {
        direction: Direction::Inbound,
        listener,
        service: "orders",
        started: clock::monotonic(),
        duration: Duration::from_millis(3),
        client: None,
        peer,
        http: Some(HttpFacts {
            method: "GET",
            host: "secret-host",
            path: "/secret-path",
            version: Version::Http2,
            status: Some(403),
            grpc_status: None,
        }),
        received: 5,
        sent: 7,
        upstream: None,
        decided,
        code: Some(Code::DeniedByRule),
        detail: None,
        leave: Some(Leave::default()),
        preamble: &[],
    }
}

/// What a policy says about a peer that one rule denies, and another that is only audited allows.
fn denied() -> (Policy, SpiffeId, Decided) {
    let policy = "service: orders\nrules: [{name: later, mode: audit, from: any}, {name: no, action: deny, from: any}]";
    let policy = Policy::parse(policy, "p.yaml".as_ref(), Protocol::Http).unwrap();
    let peer = SpiffeId::parse("spiffe://demo.org/shop").unwrap();
    let decided = Decided::of(&policy.decide(&Request { peer: Some(&peer), ..Request::default() }));
    (policy, peer, decided)
}

#[test]
fn a_request_is_counted_once_under_bounded_labels() {
    let (policy, peer, decided) = denied();
    let metrics = Metrics::new();
    let mut counters = metrics.counters();
    for _ in 0..2 {
        counters.count(&record("web", Some(&peer), Some(decided.ruling(&policy))));
    }
    let text = metrics.render();
    for line in [
        "svidecar_requests_total{direction=\"inbound\",listener=\"web\",service=\"orders\",rule=\"no\",\
         peer_trust_domain=\"demo.org\",status=\"4xx\",code=\"denied_by_rule\"} 2",
        "svidecar_duration_seconds_sum{direction=\"inbound\",listener=\"web\"} 0.006",
        "svidecar_duration_seconds_count{direction=\"inbound\",listener=\"web\"} 2",
        "svidecar_duration_seconds_bucket{le=\"0.0025\",direction=\"inbound\",listener=\"web\"} 0",
        "svidecar_duration_seconds_bucket{le=\"0.005\",direction=\"inbound\",listener=\"web\"} 2",
        "svidecar_duration_seconds_bucket{le=\"+Inf\",direction=\"inbound\",listener=\"web\"} 2",
        "svidecar_received_bytes_total{direction=\"inbound\",listener=\"web\"} 10",
        "svidecar_sent_bytes_total{direction=\"inbound\",listener=\"web\"} 14",
        "svidecar_audited_total{service=\"orders\",rule=\"later\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("secret"), "a host or a path became a label:\n{text}");
    assert!(!text.contains("/shop"), "an ID became a label:\n{text}");
}

#[test]
fn a_connection_is_counted_apart_from_requests() {
    let metrics = Metrics::new();
    let mut counters = metrics.counters();
    counters.count(&Record { http: None, code: Some(Code::Expired), ..record("web", None, None) });
    let text = metrics.render();
    assert!(text.contains("svidecar_connections_total{"), "{text}");
    assert!(!text.contains("svidecar_requests_total{"), "{text}");
}

#[test]
fn the_number_of_series_has_a_hard_bound() {
    let metrics = Metrics::new();
    let mut counters = metrics.counters();
    let count = sums::MAX_SERIES + 50;
    for at in 0..count {
        let peer = SpiffeId::parse(&format!("spiffe://td{at}.org/x")).unwrap();
        counters.count(&record("web", Some(&peer), None));
    }
    assert_eq!(counters.series.len(), sums::MAX_SERIES + 1);
    let text = metrics.render();
    assert_eq!(text.matches("svidecar_requests_total{").count(), sums::MAX_SERIES + 1);
    let other = text.lines().find(|line| line.contains("peer_trust_domain=\"other\"")).unwrap();
    assert!(other.ends_with(" 50"), "{other}");
}

#[test]
fn what_workers_count_apart_is_summed() {
    let metrics = Metrics::new();
    let (mut one, mut two) = (metrics.counters(), metrics.counters());
    one.count(&record("web", None, None));
    two.count(&record("web", None, None));
    drop(two);
    let text = metrics.render();
    assert_eq!(text.matches("svidecar_requests_total{").count(), 1);
    assert!(text.contains("svidecar_sent_bytes_total{direction=\"inbound\",listener=\"web\"} 14"));
}

#[test]
fn state_is_rendered() {
    let metrics = Metrics::new();
    let state = metrics.state();
    state.open_connections(Direction::Outbound, "orders").inc();
    state.set_bundles([("demo.org".parse().unwrap(), 2)]);
    state.set_bundles([("other.org".parse().unwrap(), 1)]);
    state.count_reload(false);
    let text = metrics.render();
    for line in [
        "svidecar_open_connections{direction=\"outbound\",listener=\"orders\"} 1",
        "svidecar_bundle_authorities{trust_domain=\"other.org\"} 1",
        "svidecar_config_reloads_total{outcome=\"refused\"} 1",
        "svidecar_config_current 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("trust_domain=\"demo.org\""));
}

/// Names, types, help and numbers are what dashboards and alerts are made of.
#[test]
fn the_page_is_what_it_was() {
    let (policy, peer, decided) = denied();
    let metrics = Metrics::new();
    let mut counters = metrics.counters();
    counters.count(&record("web", Some(&peer), Some(decided.ruling(&policy))));
    counters.count(&Record { http: None, code: Some(Code::Expired), ..record("web", None, None) });
    let state = metrics.state();
    state.open_connections(Direction::Outbound, "orders").inc();
    state.set_bundles([("demo.org".parse().unwrap(), 2)]);
    state.set_upstreams([(Direction::Inbound, "web", 3)]);
    state.count_reload(false);
    state.ready.set(1);
    state.set_svid_not_after(1_790_000_000);
    state.svid_updates.increment(1);
    let lines = |page: &str| {
        // What the process takes of the machine is another number each time.
        let lines = page.lines().filter(|line| !line.is_empty() && !line.contains("process_"));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let expected = include_str!("tests/page.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines(&metrics.render()), lines(&expected));
}
