use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustls_pki_types::UnixTime;
use svidecar_authority::bundle::Bundle;
use svidecar_code::Code;
use svidecar_config::proxy::{
    AccessLogFormat, AccessLogPath, AccessLogSettings, IdentityHeaderSettings, ProxySettings,
};
use svidecar_policy::Protocol;
use svidecar_process::{Source, clock};

use super::*;
use crate::{
    io::tls::tests::authority::{Authority, HOUR},
    message::identity::IdentityHeaders,
    plan::{Plan, snapshot::Current},
    record::{Origin, Telemetry},
    runtime::{
        budgets::{Budgets, Sizes},
        peer::Peer,
        shared::Shared,
    },
};

const POLICY: &str = "
service: orders
rules:
  - {name: shop, from: [spiffe://demo.org/shop]}
  - {name: no-admin, action: deny, from: any, to: [{paths: [/admin]}]}
  - {name: no-impostors, action: deny, from: any, to: [{headers: {x-spiffe-id: spiffe://demo.org/admin}}]}
";

/// Of a connection that has just come.
fn standing() -> Rc<Standing> {
    let budgets = Budgets::new(Sizes { connections: 1, most: usize::MAX, head: 64 << 10 });
    Standing::stranger(&Arc::new(budgets), Source::Unknown)
}

/// A row, and who asks to pass.
struct Scene {
    party: Party,
    row: Row,
    origin: Rc<Origin>,
    log: tempfile::TempDir,
}

impl Scene {
    fn new(peer: Option<KnownPeer>, row: Row, policy: Option<&Arc<Policy>>) -> Self {
        let log = tempfile::tempdir().unwrap();
        let path = AccessLogPath::File(log.path().join("access.log"));
        let telemetry = Telemetry::start(&AccessLogSettings { format: AccessLogFormat::Json, path }).unwrap();
        let plan = Plan { settings: ProxySettings::default(), inbound: Vec::new(), outbound: Vec::new() };
        let shared = Shared::new(Current::new(Arc::new(plan), ""), telemetry);
        let id = peer.as_ref().map(KnownPeer::id);
        let origin = match policy {
            Some(policy) => Origin::inbound(&"web".into(), policy, None, id),
            None => Origin::outbound(&"web".into(), None),
        };
        let party = Party { worker: Worker::new(shared), address: PeerAddress::Unix(None), peer };
        Self { party, row, origin, log }
    }

    /// A peer with an SVID that ends in so many seconds, by a policy for that protocol.
    fn inbound(path: &str, ends_in: i64, protocol: Protocol) -> Self {
        let text = match protocol {
            Protocol::Http => POLICY,
            Protocol::Tcp => "service: orders\nrules: [{name: shop, from: [spiffe://demo.org/shop]}]",
        };
        let policy = Arc::new(Policy::parse(text, "p.yaml".as_ref(), protocol).unwrap());
        let headers = IdentityHeaders::compile(&IdentityHeaderSettings::default()).unwrap();
        let row = Row {
            listener: "web".into(),
            form: Form::Normal,
            peers: Some(Authenticate::new(OnPeerExpiry::Drain, &Arc::new(headers))),
            policy: Some(Arc::clone(&policy)),
            max_requests: None,
        };
        Self::new(Some(peer(path, ends_in)), row, Some(&policy))
    }

    fn outbound() -> Self {
        let row = Row {
            listener: "web".into(),
            form: Form::AsItCame,
            peers: None,
            policy: None,
            max_requests: None,
        };
        Self::new(None, row, None)
    }

    /// What becomes of a request, and of its head.
    fn ask(&self, head: &mut RequestHead) -> Result<(bool, bool), (Code, bool)> {
        let flights = OnceCell::new();
        let mut record = Recording::new(&self.party.worker.recorder, &self.origin);
        record.begin_request(&self.origin, clock::monotonic(), head);
        let subject = Subject::Request { head, flights: &flights, standing: &standing() };
        let admission = at_once(self.row.admit(&self.party, subject, &mut record));
        admission
            .map(|admission| (admission.may_switch, admission.flight.is_some()))
            .map_err(|refusal| (refusal.code, refusal.close))
    }

    /// What becomes of a connection.
    fn connect(&self) -> Result<bool, Code> {
        let mut record = Recording::new(&self.party.worker.recorder, &self.origin);
        record.begin_connection(&self.origin, clock::monotonic());
        let admission = at_once(self.row.admit(&self.party, Subject::Connection(&standing()), &mut record));
        admission.map(|admission| admission.flight.is_some()).map_err(|refusal| refusal.code)
    }

    /// The code, the rule and the detail of what was recorded.
    fn recorded(&self) -> Vec<[Option<String>; 3]> {
        self.party.worker.shared.telemetry.close(Duration::from_secs(30));
        let text = std::fs::read_to_string(self.log.path().join("access.log")).unwrap();
        let line = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let told = |line: serde_json::Value| {
            ["code", "rule", "detail"].map(|field| line[field].as_str().map(str::to_owned))
        };
        text.lines().map(line).map(told).collect()
    }
}

fn peer(path: &str, ends_in: i64) -> KnownPeer {
    let authority = Authority::new("demo.org");
    let now = clock::unix().as_secs();
    let born = now.saturating_add_signed(ends_in) - HOUR.as_secs();
    let born = UnixTime::since_unix_epoch(Duration::from_secs(born));
    let chain = Bundle::certificates_from_der(&authority.svid(path, HOUR, born).x509_svid).unwrap();
    KnownPeer::new(Peer::new(chain).unwrap(), None)
}

/// Every stage that there is answers when it is asked.
fn at_once<T>(row: impl Future<Output = T>) -> T {
    match pin!(row).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the row waits for somebody"),
    }
}

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let fields = [("Host", "demo")].iter().chain(fields).copied().collect();
    RequestHead { method: method.into(), target: target.into(), fields, ..RequestHead::default() }
}

#[test]
fn a_request_of_a_peer_passes_every_stage() {
    let scene = Scene::inbound("/shop", 60, Protocol::Http);
    let mut head = head(
        "GET",
        "/a/./b",
        &[
            ("X-SPIFFE-ID", "spiffe://demo.org/admin"),
            ("Connection", "x-one-hop, upgrade"),
            ("X-One-Hop", "1"),
            ("Upgrade", "websocket"),
        ],
    );
    assert_eq!(scene.ask(&mut head), Ok((true, true)));
    assert_eq!(head.target, "/a/b");
    assert!(head.fields.get_all("x-spiffe-id").eq([&b"spiffe://demo.org/shop"[..]]));
    assert!(!head.fields.contains("x-one-hop"));
}

#[test]
fn the_first_stage_that_says_no_is_heard() {
    let (known, expired) =
        (Scene::inbound("/shop", 60, Protocol::Http), Scene::inbound("/shop", -60, Protocol::Http));
    let other = Scene::inbound("/other", 60, Protocol::Http);
    for (scene, target, expected) in [
        (&known, "/admin%2f", (Code::AmbiguousPath, false)),
        (&known, "/x/../admin", (Code::DeniedByRule, false)),
        (&other, "/a", (Code::DeniedByRule, false)),
        (&expired, "/a", (Code::PeerExpired, true)),
        (&expired, "/admin%2f", (Code::PeerExpired, true)),
        (&expired, "/admin", (Code::PeerExpired, true)),
    ] {
        assert_eq!(scene.ask(&mut head("GET", target, &[])), Err(expected), "{target}");
    }
}

#[test]
fn a_request_of_the_workload_keeps_its_form() {
    let scene = Scene::outbound();
    let mut passes = head("GET", "/a/./b%2f", &[("X-SPIFFE-ID", "mine"), ("Connection", "close")]);
    assert_eq!(scene.ask(&mut passes), Ok((false, false)));
    assert_eq!(passes.target, "/a/./b%2f");
    assert!(passes.fields.contains("x-spiffe-id") && !passes.fields.contains("connection"));
    assert_eq!(scene.ask(&mut head("CONNECT", "", &[])), Err((Code::MethodNotAllowed, false)));
}

#[test]
fn connections_pass_the_same_row() {
    for (scene, expected) in [
        (Scene::inbound("/shop", 60, Protocol::Tcp), Ok(false)),
        (Scene::inbound("/other", 60, Protocol::Tcp), Err(Code::DeniedByRule)),
        (Scene::inbound("/shop", -60, Protocol::Tcp), Err(Code::PeerExpired)),
        (Scene::outbound(), Ok(false)),
    ] {
        assert_eq!(scene.connect(), expected);
    }
}

/// What an expired peer may not ask for, it may not open a connection for either.
#[test]
fn a_peer_that_has_expired_opens_nothing() {
    for (scene, expected) in [
        (Scene::inbound("/shop", 60, Protocol::Http), Ok(())),
        (Scene::inbound("/other", 60, Protocol::Http), Ok(())),
        (Scene::inbound("/shop", -60, Protocol::Http), Err(Code::PeerExpired)),
        (Scene::outbound(), Ok(())),
    ] {
        assert_eq!(scene.row.may_open(&scene.party).map_err(|refusal| refusal.code), expected);
    }
}

/// Whichever stage it is, and whatever it is about.
#[test]
fn a_no_is_recorded_with_its_code_its_words_and_the_rule() {
    let told = |code: Code, rule: Option<&str>, detail: &str| {
        [Some(code.name().to_owned()), rule.map(str::to_owned), Some(detail.to_owned())]
    };
    let scene = Scene::inbound("/shop", 60, Protocol::Http);
    for target in ["/admin", "/%2f"] {
        assert!(scene.ask(&mut head("GET", target, &[])).is_err());
    }
    let lines = scene.recorded();
    assert_eq!(lines[0], told(Code::DeniedByRule, Some("no-admin"), "`no-admin` denies it"));
    assert_eq!(lines[1][0].as_deref(), Some(Code::AmbiguousPath.name()));

    let expired =
        told(Code::PeerExpired, None, "the SVID of spiffe://demo.org/shop has expired since it connected");
    let (http, tcp) =
        (Scene::inbound("/shop", -60, Protocol::Http), Scene::inbound("/shop", -60, Protocol::Tcp));
    assert!(http.ask(&mut head("GET", "/", &[])).is_err());
    assert!(tcp.connect().is_err());
    for scene in [http, tcp] {
        assert_eq!(scene.recorded()[..], *std::slice::from_ref(&expired));
    }

    let scene = Scene::inbound("/other", 60, Protocol::Tcp);
    assert!(scene.connect().is_err());
    assert_eq!(scene.recorded(), [told(Code::DeniedByRule, Some("default"), "`default` denies it")]);

    let scene = Scene::outbound();
    assert!(scene.ask(&mut head("CONNECT", "", &[])).is_err());
    assert_eq!(scene.recorded()[0][0].as_deref(), Some(Code::MethodNotAllowed.name()));
}

#[test]
fn what_passed_is_asked_again() {
    let scene = Scene::inbound("/shop", 60, Protocol::Tcp);
    assert!(scene.row.still_allows(&scene.party) && Scene::outbound().row.still_allows(&scene.party));
    let scene = Scene::inbound("/other", 60, Protocol::Tcp);
    assert!(!scene.row.still_allows(&scene.party));
}

#[test]
fn trailers_say_nothing_of_their_sender() {
    let sent = || [("x-spiffe-id", "a"), ("connection", "b"), ("x-sum", "c")].into_iter().collect();
    for (scene, stays) in [(Scene::inbound("/shop", 60, Protocol::Http), false), (Scene::outbound(), true)] {
        let mut trailers: Fields = sent();
        scene.row.clean_trailers(&mut trailers);
        assert_eq!(trailers.contains("x-spiffe-id"), stays);
        assert!(!trailers.contains("connection") && trailers.contains("x-sum"));
    }
}
