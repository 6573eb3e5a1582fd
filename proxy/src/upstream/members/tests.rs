use std::{cell::RefCell, time::Duration};

use svidecar_config::proxy::{AccessLogFormat, AccessLogPath, AccessLogSettings, ProxySettings};
use tokio::{net::TcpListener, task::LocalSet};

use super::*;
use crate::{
    plan::{
        Plan,
        snapshot::Current,
        tls::TlsSource,
        upstream::{BytesChoice, HttpChoice, OpenUpstream},
    },
    record::Telemetry,
    runtime::shared::Shared,
    upstream::channel::Kind,
};

fn members() -> Members {
    let name: Address = "app.internal:80".parse().unwrap();
    let spec = UpstreamSpec {
        name: "app".into(),
        endpoints: vec![name.clone()],
        tls: None,
        http: HttpChoice::Http1,
        bytes: BytesChoice::Auto,
        connect_timeout: Duration::from_secs(5),
        handshake_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        max_header_bytes: 1024,
        max_headers: 10,
        open: OpenUpstream::new(10),
    };
    Members::new(&Arc::new(spec), &name)
}

fn at(port: u16) -> Location {
    Location::Tcp(([127, 0, 0, 1], port).into())
}

fn refusal(what: &str) -> Refusal {
    Refusal::new(Code::UpstreamRefused, what)
}

/// Asks them, of whom those at `unreachable` take no connection. Says who gave what was wanted, or what the last one said; and
/// who was asked.
async fn ask(members: &Members, unreachable: &[u16]) -> (Result<Location, String>, Vec<Location>) {
    let asked = RefCell::new(Vec::new());
    let ask = async |endpoint: &Endpoint, _: &mut Allowance| {
        asked.borrow_mut().push(endpoint.location().clone());
        let is_unreachable = unreachable.iter().any(|port| at(*port) == *endpoint.location());
        match is_unreachable {
            true => Err(Failure::Unreachable(refusal(&endpoint.location().to_string()))),
            false => Ok(endpoint.location().clone()),
        }
    };
    let endpoints = members.current.borrow().clone();
    let mut allowance = Allowance::new(&members.spec);
    let got = members.first_to_accept(&endpoints, &mut allowance, &ask).await;
    (got.map_err(|refusal| refusal.detail), asked.into_inner())
}

#[tokio::test(start_paused = true)]
async fn addresses_are_asked_in_order_and_those_that_failed_come_last() {
    let members = members();
    members.leads_to(vec![at(1), at(2), at(3)]);
    assert_eq!(ask(&members, &[1]).await, (Ok(at(2)), vec![at(1), at(2)]));
    assert!(!members.is_avoided());
    // For a moment.
    assert_eq!(ask(&members, &[2, 3]).await, (Ok(at(1)), vec![at(2), at(3), at(1)]));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask(&members, &[]).await, (Ok(at(1)), vec![at(1)]));

    let all = vec![at(1), at(2), at(3)];
    assert_eq!(ask(&members, &[1, 2, 3]).await, (Err("127.0.0.1:3".to_owned()), all));
    assert!(members.is_avoided());
}

#[tokio::test]
async fn who_accepts_and_refuses_then_speaks_for_the_name() {
    let members = members();
    members.leads_to(vec![at(1), at(2)]);
    let asked = RefCell::new(Vec::new());
    let refuse = async |endpoint: &Endpoint, _: &mut Allowance| -> Result<(), Failure> {
        asked.borrow_mut().push(endpoint.location().clone());
        Err(refusal("not who was expected").into())
    };
    let endpoints = members.current.borrow().clone();
    for expected in [vec![at(1)], vec![at(1), at(2)]] {
        let mut allowance = Allowance::new(&members.spec);
        members.first_to_accept(&endpoints, &mut allowance, &refuse).await.unwrap_err();
        assert_eq!(*asked.borrow(), expected);
    }
}

#[tokio::test]
async fn what_is_known_of_an_address_stays_as_long_as_the_name_leads_to_it() {
    let members = members();
    members.leads_to(vec![at(1), at(2)]);
    assert_eq!(ask(&members, &[1]).await.1, [at(1), at(2)]);
    members.leads_to(vec![at(3), at(1), at(2)]);
    assert_eq!(ask(&members, &[2, 3]).await.1, [at(3), at(2), at(1)]);
    members.leads_to(vec![at(2)]);
    assert!(members.former.borrow().is_empty());
    members.leads_to(vec![at(3), at(2)]);
    assert_eq!(ask(&members, &[]).await.1, [at(3)]);
}

/// What is open to it is closed by whoever closes first, as if nobody had looked anything up.
#[tokio::test]
async fn an_address_that_the_name_no_longer_leads_to_serves_on() {
    let plan = Plan::compile(ProxySettings::default(), &TlsSource::default(), None).unwrap();
    let log = AccessLogSettings { format: AccessLogFormat::Off, path: AccessLogPath::Stdout };
    let shared = Shared::new(Current::new(Arc::new(plan), "unix:/nowhere"), Telemetry::start(&log).unwrap());
    let open = async {
        let worker = Worker::new(shared);
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = Location::Tcp(app.local_addr().unwrap());
        let members = members();
        members.leads_to(vec![location.clone()]);

        let endpoint = Rc::clone(&members.current.borrow()[0]);
        let mut allowance = Allowance::new(&members.spec);
        let ready = endpoint.ready(&worker, Offer::Http1, &mut allowance).await.unwrap();
        let _accepted = app.accept().await.unwrap();
        // It runs while the answer changes.
        members.leads_to(vec![at(1)]);
        let Kind::Http1(connection, home) = ready.kind else { panic!("HTTP/2") };
        home.give_back(&worker, connection, ready.facts);
        drop(home);
        members.leads_to(vec![at(2)]);

        assert_eq!(ask(&members, &[2]).await.1, [at(2)]);
        let used = members.pooled(&worker).unwrap();
        assert_eq!(used.facts.address, location.to_string());
        drop(used);
        members.leads_to(vec![at(3)]);
        assert!(members.former.borrow().is_empty() && members.pooled(&worker).is_none());
    };
    LocalSet::new().run_until(open).await;
}
