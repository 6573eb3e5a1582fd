//! The client in this process, on real sockets, against a Workload API server that the tests drive. Nothing sleeps:
//! tests wait for what is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod agent;
mod calls;
#[path = "../../src/testing.rs"]
mod testing;
mod watch;

use std::time::Duration;

/// No step of a test takes so long; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen in time")
}
