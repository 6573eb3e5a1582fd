//! A host whose clock is wrong for a while.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use svidecar_api::workload::X509svid;

use crate::harness::{Bed, ids, my_uid, next, soon};

/// Two hours ahead for a moment: nothing is deleted, neither in memory nor on disk, and the server does not have to be there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_for_a_moment_deletes_nothing() {
    let mut bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    let before = next(&mut stream).await;
    bed.stop_server().await;
    for seconds in [7200, -7200, -7200, 7200] {
        bed.hands.set(seconds);
    }
    agent.stop().await;
    // Started while the clock is ahead, it keeps what has ended by it.
    bed.hands.set(7200);
    let agent = bed.start(bed.settings());
    drop(agent.channel().await);
    bed.hands.set(-7200);
    let mut stream = agent.fetch_when_ready().await;
    assert_eq!(next(&mut stream).await, before);
    agent.stop().await;
}

/// The machine wakes up after two hours, and its agent renews at once, not when a timer that stood still has run out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_wakes_up_renews_at_once() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    let before = next(&mut stream).await;
    let renewals = *bed.world.renewals.borrow();
    bed.hands.sleep(Duration::from_secs(40 * 60));
    let after = next(&mut stream).await;
    assert_eq!(ids(&after), ids(&before));
    assert_ne!(after.svids[0].x509_svid, before.svids[0].x509_svid);
    let mut seen = bed.world.renewals.subscribe();
    seen.wait_for(|count| *count > renewals).await.unwrap();
    agent.stop().await;
}

/// What was signed by a clock that was ahead for a moment is renewed in time, also where nobody has told of either jump.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_slips_for_a_moment_is_noticed_by_who_acts_on_it() {
    let bed = Bed::new(true);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    let mut stream = agent.fetch().await.unwrap();
    next(&mut stream).await;
    bed.hands.slip(26 * 3600);
    // Whatever has the agent sign something lets it act on that time, for all of them.
    bed.world.create_entry("e2", "/too", &[&my_uid()]);
    let ahead = to_seconds(bed.hands.read().wall) - 3600;
    wait_for_saved(&bed, 2, |entry| entry["svid"]["obtained"].as_u64() > Some(ahead)).await;
    bed.hands.slip(-26 * 3600);
    let before = loop {
        let update = next(&mut stream).await;
        if update.svids.len() == 2 {
            break update;
        }
    };
    // Past the half of what they live, and not of what they would have lived.
    bed.hands.pass(Duration::from_secs(40 * 60));
    bed.world.create_entry("e3", "/third", &[&my_uid()]);
    let is_old = |svid: &X509svid| before.svids.iter().any(|held| held.x509_svid == svid.x509_svid);
    while next(&mut stream).await.svids.iter().any(is_old) {}
    agent.stop().await;
}

/// The server's clock is wrong for a moment, and what it signs has ended: it is asked again as soon as after any failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_behind_for_a_moment_is_asked_again_at_once() {
    let bed = Bed::new(true);
    bed.world.is_behind.store(true, Ordering::Relaxed);
    bed.world.create_entry("e1", "/mine", &[&my_uid()]);
    let agent = bed.agent().await;
    wait_for_saved(&bed, 1, |entry| entry["svid"].is_object()).await;
    bed.world.is_behind.store(false, Ordering::Relaxed);
    bed.hands.pass(Duration::from_secs(4));
    let mut stream = agent.fetch_when_ready().await;
    assert_eq!(ids(&next(&mut stream).await), ["spiffe://demo.org/mine"]);
    agent.stop().await;
}

/// Waits until the agent has so many entries on disk, and all as they are to be.
async fn wait_for_saved(bed: &Bed, count: usize, is_right: impl Fn(&Value) -> bool) {
    let saved = bed.settings().data_dir.join("workloads.json");
    soon(async {
        loop {
            let text = std::fs::read(&saved).unwrap_or_default();
            let file: Value = serde_json::from_slice(&text).unwrap_or_default();
            let entries = file["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
            if entries.len() == count && entries.iter().all(&is_right) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn to_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
