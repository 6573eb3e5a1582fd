//! A host whose clock is wrong for a while.

use std::time::Duration;

use crate::harness::{Bed, ids, my_uid, next};

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
