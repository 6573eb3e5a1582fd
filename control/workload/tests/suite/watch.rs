//! Identities that come, rotate, go away and are taken back.

use std::{sync::Arc, time::Duration};

use svidecar_process::clock;
use svidecar_workload::{Choice, Event, Identity, IdentityState, IdentityWatch};
use tokio::{sync::mpsc, task::JoinHandle};
use tonic::Code;

use crate::{
    agent::{Agent, Says},
    soon,
    testing::{Issuer, message},
};

/// A watch that runs, and what it tells.
struct Watch {
    told: mpsc::Receiver<(Arc<Identity>, Event)>,
    task: JoinHandle<()>,
}

impl Watch {
    fn of(agent: &Agent) -> Self {
        let endpoint = agent.endpoint();
        let known = Arc::new(Identity::waiting(&endpoint, clock::unix()));
        let watch = IdentityWatch { endpoint, choice: Choice::default(), known };
        let (sender, told) = mpsc::channel(64);
        let tell = move |identity: &Arc<Identity>, event| {
            sender.try_send((Arc::clone(identity), event)).unwrap();
        };
        Self { told, task: tokio::spawn(watch.run(tell)) }
    }

    /// The identity that an event came with, passing over others.
    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Arc<Identity> {
        soon(async {
            loop {
                let (identity, event) = self.told.recv().await.unwrap();
                if wanted(&event) {
                    return identity;
                }
            }
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn presented(identity: &Identity) -> Option<&str> {
    identity.valid_svid(clock::unix()).map(|svid| svid.id.as_str())
}

/// I8, I9, I10
#[tokio::test]
async fn an_identity_comes_rotates_and_stays_while_the_agent_is_away() {
    let issuer = Issuer::new("demo.org");
    let mut agent = Agent::start(Says::Unavailable).await;
    let mut watch = Watch::of(&agent);
    let waiting = watch.until(|event| matches!(event, Event::Absent)).await;
    assert_eq!(waiting.status.state, IdentityState::Unavailable);
    assert_eq!(waiting.status.detail, "the agent cannot answer now (Unavailable: starting)");

    agent.says(Says::Gives(message(vec![issuer.svid("/shop", "")])));
    let first = watch.until(|event| matches!(event, Event::Obtained)).await;
    assert_eq!(presented(&first), Some("spiffe://demo.org/shop"));
    assert_eq!(first.status.state, IdentityState::Current);

    agent.says(Says::Gives(message(vec![issuer.svid("/shop", "")])));
    let second = watch.until(|event| matches!(event, Event::Rotated)).await;
    assert_ne!(first.svid.as_ref().unwrap().leaf.serial, second.svid.as_ref().unwrap().leaf.serial);

    agent.stop().await;
    let away = watch.until(|event| matches!(event, Event::Away)).await;
    assert_eq!(presented(&away), Some("spiffe://demo.org/shop"));
    agent.restart().await;
    let back = watch.until(|event| matches!(event, Event::Confirmed)).await;
    assert_eq!(back.status.state, IdentityState::Current);
}

/// I13
#[tokio::test]
async fn what_the_agent_takes_back_is_gone_until_it_gives_it_again() {
    let issuer = Issuer::new("demo.org");
    let agent = Agent::start(Says::Gives(message(vec![issuer.svid("/shop", "")]))).await;
    let mut watch = Watch::of(&agent);
    watch.until(|event| matches!(event, Event::Obtained)).await;
    agent.says(Says::Denied);
    let gone = watch.until(|event| matches!(event, Event::TakenBack)).await;
    assert!(gone.svid.is_none() && gone.all.is_empty() && gone.bundles.is_empty());
    assert_eq!(gone.status.state, IdentityState::NotIssued);
    assert!(gone.status.detail.contains("svidecar-agent why --pid"), "{}", gone.status.detail);
    agent.says(Says::Gives(message(vec![issuer.svid("/shop", "")])));
    watch.until(|event| matches!(event, Event::Obtained)).await;
}

/// Bundles of others come by the second stream, and the same ones are the same value.
#[tokio::test]
async fn federated_bundles_come_and_go() {
    let (issuer, partner) = (Issuer::new("demo.org"), Issuer::new("partner.org"));
    let agent = Agent::start(Says::Gives(message(vec![issuer.svid("/shop", "")]))).await;
    let mut watch = Watch::of(&agent);
    watch.until(|event| matches!(event, Event::Obtained)).await;
    let changed = |event: &Event| matches!(event, Event::BundlesChanged);
    let mut both = message(vec![issuer.svid("/shop", "")]);
    both.federated_bundles.insert("spiffe://partner.org".to_owned(), partner.0.certificate().to_vec());
    agent.says(Says::Gives(both));
    assert_eq!(watch.until(changed).await.bundles.len(), 2);
    agent.says(Says::Gives(message(vec![issuer.svid("/shop", "")])));
    assert_eq!(watch.until(changed).await.bundles.len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_told_and_changes_nothing() {
    let issuer = Issuer::new("demo.org");
    let agent = Agent::start(Says::Gives(message(vec![issuer.svid("/shop", "")]))).await;
    let mut watch = Watch::of(&agent);
    watch.until(|event| matches!(event, Event::Obtained)).await;
    let mut broken = message(vec![issuer.svid("/shop", "")]);
    broken.svids[0].x509_svid_key = issuer.svid("/shop", "").x509_svid_key;
    agent.says(Says::Gives(broken));
    let kept = watch.until(|event| matches!(event, Event::SvidsDiscarded(_))).await;
    assert_eq!(kept.status.state, IdentityState::Current);
    let kept = watch.until(|event| matches!(event, Event::Away)).await;
    assert_eq!(kept.status.state, IdentityState::Invalid);
    assert_eq!(presented(&kept), Some("spiffe://demo.org/shop"));
}

/// Each reason has its state, which is what an operator acts by.
#[tokio::test]
async fn why_there_is_nothing_is_told_apart() {
    let mut agent = Agent::start(Says::Denied).await;
    let mut watch = Watch::of(&agent);
    let absent = |event: &Event| matches!(event, Event::Absent);
    assert_eq!(watch.until(absent).await.status.state, IdentityState::NotIssued);
    agent.says(Says::Refuses(Code::PermissionDenied, "could not resolve caller information: gone"));
    assert_eq!(watch.until(absent).await.status.state, IdentityState::NotAttested);
    agent.stop().await;
    assert_eq!(watch.until(absent).await.status.state, IdentityState::SocketMissing);
    agent.says(Says::Refuses(Code::Unimplemented, ""));
    agent.restart().await;
    let other = watch.until(absent).await;
    assert_eq!(other.status.state, IdentityState::Invalid);
    assert!(other.status.detail.contains("does not serve the X.509 Workload API"), "{}", other.status.detail);
}

/// An agent that delivers and ends each time costs neither side more than a few calls a second.
#[tokio::test]
async fn an_agent_that_ends_each_stream_is_not_asked_without_a_pause() {
    let issuer = Issuer::new("demo.org");
    let agent = Agent::start(Says::GivesAndEnds(message(vec![issuer.svid("/shop", "")]))).await;
    let mut watch = Watch::of(&agent);
    watch.until(|event| matches!(event, Event::Obtained)).await;
    let start = clock::timer();
    for _ in 0..4 {
        watch.until(|event| matches!(event, Event::Confirmed)).await;
    }
    // At once, and then after at least half of 100, 200 and 400 ms.
    assert!(clock::timer() - start >= Duration::from_millis(350));
}

/// An agent that cannot see us for a moment has not said that we are nobody.
#[tokio::test]
async fn what_there_is_stays_while_the_agent_cannot_tell_who_asks() {
    let issuer = Issuer::new("demo.org");
    let agent = Agent::start(Says::Gives(message(vec![issuer.svid("/shop", "")]))).await;
    let mut watch = Watch::of(&agent);
    watch.until(|event| matches!(event, Event::Obtained)).await;
    agent.says(Says::Refuses(Code::PermissionDenied, "could not resolve caller information: gone"));
    let away = watch.until(|event| matches!(event, Event::Away)).await;
    assert_eq!(away.status.state, IdentityState::NotAttested);
    assert_eq!((presented(&away), away.bundles.len()), (Some("spiffe://demo.org/shop"), 1));
    agent.says(Says::Gives(message(vec![issuer.svid("/shop", "")])));
    let back = watch.until(|event| matches!(event, Event::Rotated)).await;
    assert_eq!(back.status.state, IdentityState::Current);
}

/// Whoever is there before its entry has its identity as soon as there is one: our agent keeps its stream open, and any
/// other is asked again within a second.
#[tokio::test]
async fn an_identity_comes_with_its_entry() {
    let issuer = Issuer::new("demo.org");
    for is_ours in [true, false] {
        let mut agent = Agent::start(Says::Denied).await;
        agent.stop().await;
        agent.is_ours = is_ours;
        agent.restart().await;
        let mut watch = Watch::of(&agent);
        let absent = watch.until(|event| matches!(event, Event::Absent)).await;
        assert_eq!(absent.status.state, IdentityState::NotIssued);
        if is_ours {
            soon(agent.has_waiting()).await;
        }
        agent.says(Says::Gives(message(vec![issuer.svid("/shop", "")])));
        watch.until(|event| matches!(event, Event::Obtained)).await;
        // What is taken back is heard, also by one that has waited.
        agent.says(Says::Denied);
        watch.until(|event| matches!(event, Event::TakenBack)).await;
    }
}
