//! An agent whose disk is full.

use std::time::Duration;

use svidecar_api::svidecar::agent::v1::{GetStatusRequest, GetStatusResponse, admin_client::AdminClient};
use svidecar_process::{clock, testing::SmallDisk};
use tonic::transport::Channel;

use crate::harness::{Bed, ids, my_uid, next, soon};

/// What is renewed is used although it cannot be saved, and all is on disk as soon as there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_on_a_full_disk_renews_and_serves_from_memory() {
    let mut bed = Bed::new(true);
    let Some(disk) = SmallDisk::mount(&bed.settings().data_dir, 64 << 10) else { return };
    *bed.world.agent_ttl.lock().unwrap() = Duration::from_secs(4);
    let mut renewals = bed.world.renewals.subscribe();
    let agent = bed.agent().await;
    let mut admin = agent.admin().await;
    disk.fill().unwrap();
    // Further than the SVID that was on disk when it became full.
    for round in 1..=3 {
        let seen = *renewals.borrow_and_update();
        soon(renewals.wait_for(|count| *count > seen)).await.unwrap();
        bed.world.create_entry(&format!("e{round}"), &format!("/{round}"), &[&my_uid()]);
    }
    let mut stream = agent.fetch().await.unwrap();
    while next(&mut stream).await.svids.len() < 3 {}
    until(&mut admin, |status| status.problem.contains("No space left")).await;

    *bed.world.agent_ttl.lock().unwrap() = Duration::from_secs(3600);
    disk.free().unwrap();
    let later = i64::try_from(clock::unix().as_secs()).unwrap() + 1800;
    until(&mut admin, |status| status.problem.is_empty() && status.svid_expires_at > later).await;
    agent.stop().await;
    bed.stop_server().await;
    let agent = bed.start(bed.settings());
    let mut stream = agent.fetch_when_ready().await;
    assert_eq!(ids(&next(&mut stream).await).len(), 3);
    agent.stop().await;
}

/// Asks the agent how it is until it is so.
async fn until(admin: &mut AdminClient<Channel>, is_so: impl Fn(&GetStatusResponse) -> bool) {
    soon(async {
        while !is_so(&admin.get_status(GetStatusRequest {}).await.unwrap().into_inner()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
