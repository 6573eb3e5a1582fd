//! What each word of the agent changes. Nothing is asked and nothing waits: words and times are given.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use svidecar_api::workload::X509svid;
use svidecar_authority::{UnixTime, time};
use svidecar_id::TrustDomain;
use svidecar_process::clock;

use super::*;
use crate::testing::{Issuer, LIFE, message};

type Told = Arc<Mutex<Vec<Event>>>;
type Tell = Box<dyn FnMut(&Arc<Identity>, Event)>;

struct Bed {
    listener: Listener<Tell>,
    told: Told,
    now: UnixTime,
}

impl Bed {
    fn new(choice: Choice) -> Self {
        let now = clock::unix();
        let told = Told::default();
        let log = Arc::clone(&told);
        let tell = Box::new(move |_: &Arc<Identity>, event| {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        });
        let known = Arc::new(Identity::waiting("a test", now));
        Self { listener: Listener { choice, known, unverified: None, tell }, told, now }
    }

    /// What is told when this is heard, a second after what was heard before.
    fn hear(&mut self, heard: Heard) -> Vec<Event> {
        self.now = time::plus(self.now, Duration::from_secs(1));
        self.listener.hear(heard, self.now);
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    fn svids(&mut self, svids: Vec<X509svid>) -> Vec<Event> {
        self.hear(Heard::Svids { message: message(svids), separate_bundles: false })
    }

    fn ends(&mut self, state: IdentityState, redacts: bool) -> Vec<Event> {
        let detail = format!("it is {}", state.code());
        self.hear(Heard::Ended(Ended { state, detail, redacts }))
    }

    fn known(&self) -> &Identity {
        &self.listener.known
    }

    fn presented(&self) -> Option<&str> {
        self.known().svid.as_ref().map(|svid| svid.id.as_str())
    }
}

#[test]
fn an_svid_is_obtained_rotated_and_replaced() {
    let issuer = Issuer::new("demo.org");
    let mut bed = Bed::new(Choice::default());
    let first = issuer.svid("/a", "");
    assert!(matches!(bed.svids(vec![first.clone()])[..], [Event::Obtained]));
    assert_eq!(bed.known().status.state, IdentityState::Current);
    let since = bed.known().status.since;
    assert!(matches!(bed.svids(vec![first])[..], [Event::Confirmed]));
    assert!(matches!(bed.svids(vec![issuer.svid("/a", "")])[..], [Event::Rotated]));
    let told = bed.svids(vec![issuer.svid("/b", "")]);
    assert!(matches!(&told[..], [Event::Replaced { before }] if before.path() == "/a"), "{told:?}");
    assert_eq!(bed.presented(), Some("spiffe://demo.org/b"));
    assert_eq!(bed.known().status.since, since, "it was current all the while");
}

/// Only the news: an agent that stays away is told once, and again when the reason is another.
#[test]
fn each_reason_is_told_once() {
    let issuer = Issuer::new("demo.org");
    let mut bed = Bed::new(Choice::default());
    assert!(matches!(bed.ends(IdentityState::SocketMissing, false)[..], [Event::Absent]));
    let since = bed.known().status.since;
    assert!(bed.ends(IdentityState::SocketMissing, false).is_empty());
    assert_eq!(bed.known().status.since, since);
    assert!(matches!(bed.ends(IdentityState::SocketRefused, false)[..], [Event::Absent]));
    bed.svids(vec![issuer.svid("/a", "")]);
    assert!(matches!(bed.ends(IdentityState::StreamLost, false)[..], [Event::Away]));
    assert!(bed.ends(IdentityState::StreamLost, false).is_empty());
    assert_eq!(bed.presented(), Some("spiffe://demo.org/a"), "it stays in use");
}

/// I13
#[test]
fn what_is_taken_back_is_gone_whole() {
    let issuer = Issuer::new("demo.org");
    let mut bed = Bed::new(Choice::default());
    assert!(matches!(bed.ends(IdentityState::NotIssued, true)[..], [Event::Absent]));
    bed.svids(vec![issuer.svid("/a", ""), issuer.svid("/b", "")]);
    assert!(matches!(bed.ends(IdentityState::NotIssued, true)[..], [Event::TakenBack]));
    let known = bed.known();
    assert!(known.svid.is_none() && known.all.is_empty() && known.bundles.is_empty());
    assert_eq!(known.status.state, IdentityState::NotIssued);
}

/// I11: a message that cannot be used changes nothing but the status.
#[test]
fn a_message_that_cannot_be_used_leaves_what_there_is() {
    let issuer = Issuer::new("demo.org");
    let mut bed = Bed::new(Choice::default());
    bed.svids(vec![issuer.svid("/a", "")]);
    let told = bed.svids(Vec::new());
    assert!(matches!(told[..], [Event::SvidsDiscarded(MaterialError::NoSvid), Event::Away]), "{told:?}");
    assert!(!told[0].is_change() && told[1].is_change());
    assert_eq!(bed.presented(), Some("spiffe://demo.org/a"));
    assert_eq!(bed.known().status.state, IdentityState::Invalid);
    assert!(matches!(bed.svids(Vec::new())[..], [Event::SvidsDiscarded(_)]), "the state is known");
    assert!(matches!(bed.svids(vec![issuer.svid("/a", "")])[..], [Event::Rotated]));
    assert_eq!(bed.known().status.state, IdentityState::Current);
}

/// What is presented and not among what is given was taken back, even if others are given.
#[test]
fn a_wish_that_is_not_met_any_more_takes_the_identity_away() {
    let issuer = Issuer::new("demo.org");
    let spiffe_id = SpiffeId::parse("spiffe://demo.org/b").ok();
    let mut bed = Bed::new(Choice { spiffe_id, ..Choice::default() });
    bed.svids(vec![issuer.svid("/a", ""), issuer.svid("/b", "")]);
    assert_eq!(bed.presented(), Some("spiffe://demo.org/b"));
    let told = bed.svids(vec![issuer.svid("/a", "")]);
    let [Event::SvidsDiscarded(MaterialError::NotGiven { wanted, .. }), Event::TakenBack] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(wanted, "identity.spiffe_id spiffe://demo.org/b");
    assert!(bed.presented().is_none());
}

/// Equal bundles stay the same value, so that nobody verifies anything again.
#[test]
fn bundles_are_replaced_only_by_others() {
    let (own, partner) = (Issuer::new("demo.org"), Issuer::new("partner.org"));
    let names = |bed: &Bed| -> Vec<TrustDomain> {
        bed.known().bundles.iter().map(|bundle| bundle.trust_domain.clone()).collect()
    };
    let read = |issuers: &[&Issuer]| {
        let bundles = issuers
            .iter()
            .map(|issuer| (issuer.0.trust_domain().id().to_string(), issuer.0.certificate().to_vec()));
        material::read_bundles(bundles.collect())
    };
    let mut bed = Bed::new(Choice::default());
    bed.svids(vec![own.svid("/a", "")]);
    let (bundles, since) = (Arc::clone(&bed.known().bundles), bed.known().bundles_since);
    bed.svids(vec![own.svid("/a", "")]);
    assert!(bed.hear(Heard::Bundles(read(&[&own]))).is_empty());
    assert!(Arc::ptr_eq(&bundles, &bed.known().bundles));
    assert_eq!(bed.known().bundles_since, since);

    let both = bed.hear(Heard::Bundles(read(&[&own, &partner])));
    assert!(matches!(both[..], [Event::BundlesChanged]));
    assert!(bed.known().bundles_since > since);
    // The identities' own message has fewer; while there is a stream for bundles, that one counts.
    let message = message(vec![own.svid("/a", "")]);
    bed.hear(Heard::Svids { message, separate_bundles: true });
    assert_eq!(names(&bed).len(), 2);
    bed.svids(vec![own.svid("/a", "")]);
    assert_eq!(names(&bed).len(), 1);

    let told = bed.hear(Heard::Bundles(Err(MaterialError::NoSvid)));
    assert!(matches!(told[..], [Event::BundlesDiscarded(_)]));
    assert_eq!(names(&bed).len(), 1);
}

/// What no peer would accept that has the bundle: of another root, of the past, of the future.
fn unverifiable(issuer: &Issuer) -> Vec<X509svid> {
    let foreign =
        X509svid { bundle: issuer.0.certificate().to_vec(), ..Issuer::new("demo.org").svid("/a", "") };
    let (past, future) = (time::minus(clock::unix(), 2 * LIFE - MINUTE), time::plus(clock::unix(), LIFE));
    vec![foreign, issuer.svid_of("/a", "", past), issuer.svid_of("/a", "", future)]
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_does_not_verify_never_takes_the_place_of_what_does() {
    let issuer = Issuer::new("demo.org");
    for (bad, code) in unverifiable(&issuer).into_iter().zip(["untrusted_root", "expired", "not_yet_valid"]) {
        let mut bed = Bed::new(Choice::default());
        assert!(
            matches!(bed.svids(vec![bad.clone()])[..], [Event::SvidsDiscarded(_), Event::Absent]),
            "{code}"
        );
        assert!(bed.presented().is_none() && bed.known().bundles.is_empty());
        bed.svids(vec![issuer.svid("/a", "")]);
        let serial = bed.known().svid.as_ref().unwrap().leaf.serial.clone();
        let told = bed.svids(vec![bad]);
        let [Event::SvidsDiscarded(MaterialError::NotVerified(error)), Event::Away] = &told[..] else {
            panic!("{code}: {told:?}");
        };
        assert_eq!(error.code().name(), code);
        assert_eq!(bed.known().status.state, IdentityState::NotVerified);
        assert_eq!(bed.known().svid.as_ref().unwrap().leaf.serial, serial, "it stays in use");
        assert!(matches!(bed.svids(vec![issuer.svid("/a", "")])[..], [Event::Rotated]));
        assert_eq!(bed.known().status.state, IdentityState::Current);
    }
}

/// The agent does not say it twice, and its clock may have been right.
#[test]
fn what_did_not_verify_is_used_once_it_does() {
    let issuer = Issuer::new("demo.org");
    let mut bed = Bed::new(Choice::default());
    bed.svids(vec![issuer.svid_of("/a", "", time::plus(bed.now, LIFE))]);
    let mut look_again = |now| {
        bed.listener.look_again(now);
        std::mem::take(&mut *bed.told.lock().unwrap())
    };
    assert!(look_again(bed.now).is_empty() && look_again(bed.now).is_empty(), "it was told");
    assert!(matches!(look_again(time::plus(bed.now, LIFE))[..], [Event::Obtained]));
    assert!(look_again(time::plus(bed.now, LIFE)).is_empty());
    assert_eq!(bed.known().status.state, IdentityState::Current);
}

#[test]
fn what_is_taken_back_is_not_used_later() {
    let issuer = Issuer::new("demo.org");
    let mut bed = Bed::new(Choice::default());
    bed.svids(vec![issuer.svid_of("/a", "", time::plus(bed.now, LIFE))]);
    bed.ends(IdentityState::NotIssued, true);
    bed.listener.look_again(time::plus(bed.now, LIFE));
    assert!(bed.presented().is_none());
}

/// One of several that does not verify takes nothing from the others.
#[test]
fn an_identity_beside_the_presented_one_may_be_bad() {
    let issuer = Issuer::new("demo.org");
    for bad in unverifiable(&issuer) {
        let mut bed = Bed::new(Choice::default());
        let told = bed.svids(vec![issuer.svid("/first", ""), bad.clone(), issuer.svid("/last", "")]);
        assert!(
            matches!(told[..], [Event::SvidLeftOut(MaterialError::NotVerified(_)), Event::Obtained]),
            "{told:?}"
        );
        let ids: Vec<_> = bed.known().all.iter().map(|svid| svid.id.path()).collect();
        assert_eq!((bed.presented(), &ids[..]), (Some("spiffe://demo.org/first"), &["/first", "/last"][..]));
        // The one that is to be presented does not give way to another.
        bed.svids(vec![bad, issuer.svid("/last", "")]);
        assert_eq!(bed.presented(), Some("spiffe://demo.org/first"));
    }
}
