//! Real parts for the tests: an authority, a Workload API server that tests drive, apps, clients, and a proxy made from
//! YAML. Everything listens on port 0 or a socket in a temporary directory.

#[path = "../../../control/workload/tests/suite/agent.rs"]
#[allow(dead_code, reason = "the tests of the Workload API's client use the rest")]
pub mod agent;
pub mod app;
pub mod authority;
pub mod client;
pub mod server;
pub mod sidecar;

use std::time::Duration;

/// Waits for something that must happen; long enough that only a defect runs into it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Fails the test with `what` instead of hanging it.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("this did not happen: {what}"),
    }
}
