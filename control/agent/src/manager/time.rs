//! Follows the clock: what was planned by the time of before a jump is planned again, and nothing is forgotten by a time that
//! may be wrong.

use std::{sync::Arc, time::Duration};

use svidecar_code::Code;
use svidecar_process::clock::{self, Doubt};
use tokio_util::sync::CancellationToken;

use super::Manager;

/// How often a clock that is not believed is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A time that holds this long is believed: what an agent forgets by it can be had from its server again.
const SETTLE: Duration = Duration::from_secs(3600);

/// Follows the clock until shutdown.
pub async fn run(manager: Arc<Manager>, shutdown: CancellationToken) {
    let mut steps = manager.clock.steps();
    let mut since = None;
    loop {
        let jumped = tokio::select! {
            () = shutdown.cancelled() => return,
            () = steps.next() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let now = clock::timer();
        let doubt = manager.look();
        match (&doubt, since) {
            (None, Some(_)) => {
                since = None;
                tracing::info!("the clock is believed again");
            }
            (Some(doubt), None) => {
                since = Some(now);
                tracing::error!(
                    code = Code::ClockDoubtful.name(),
                    offset_s = doubt.offset_seconds(),
                    "{doubt}. No identity is forgotten because it has ended by it, until it is right again or has held for an hour"
                );
            }
            (Some(_), Some(then)) if jumped => since = Some(now.max(then)),
            (Some(_), Some(then)) if now - then >= SETTLE => manager.guard().accept(manager.clock.read()),
            _ => {}
        }
        if jumped {
            manager.clock_jumped();
        }
    }
}

impl Manager {
    /// Looks whether the time is to be believed.
    pub(super) fn look(&self) -> Option<Doubt> {
        let doubt = self.guard().doubt(self.clock.read());
        metrics::gauge!("svidecar_agent_clock_doubtful").set(f64::from(u8::from(doubt.is_some())));
        self.cache().doubt(doubt.is_some());
        doubt
    }

    fn clock_jumped(&self) {
        self.cache().clock_jumped(self.clock.wall());
        self.jumps.send_modify(|jumps| *jumps += 1);
        self.due.notify_one();
    }
}
