//! Follows the clock: timers stand still while the machine is suspended, and know nothing of a clock that was set.

use std::sync::Arc;

use svidecar_process::clock::Steps;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::plan::snapshot::Current;

/// Has everything that rests on the time looked at again when it jumped. Runs until `stop`.
pub async fn follow(mut steps: Steps, current: Arc<Current>, stop: CancellationToken) {
    while stop.run_until_cancelled(steps.next()).await.is_some() {
        info!("The clock was set, or the machine was suspended; what has ended meanwhile is looked for");
        current.look_again();
    }
}

#[cfg(test)]
mod tests {
    use svidecar_process::testing::Hands;

    use super::*;
    use crate::plan::{Plan, tls::TlsSource};

    #[tokio::test]
    async fn every_connection_looks_again_when_the_clock_jumped() {
        let settings = svidecar_config::proxy::ProxySettings::default();
        let plan = Arc::new(Plan::compile(settings, &TlsSource::default(), None).unwrap());
        let current = Current::new(plan, "a test");
        let (hands, stop) = (Hands::running(), CancellationToken::new());
        let following = tokio::spawn(follow(hands.clock().steps(), Arc::clone(&current), stop.clone()));
        let mut version = current.subscribe();
        for step in [3600, -3600] {
            hands.set(step);
            version.changed().await.unwrap();
        }
        stop.cancel();
        following.await.unwrap();
    }
}
