//! Follows the clock: what was planned by the time of before a jump is planned again, and nothing is forgotten by a time that
//! may be wrong.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use svidecar_code::Code;
use svidecar_process::clock::{self, Doubt, Reading};
use tokio_util::sync::CancellationToken;

use super::Manager;

/// How often the clock is looked at when nobody tells that it jumped.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The same while it is not believed: what was planned meanwhile is to be planned again once it is right, which nobody may tell.
const LOOK_IN_DOUBT: Duration = Duration::from_secs(1);

/// A time that holds this long is believed: what an agent forgets by it can be had from its server again.
const SETTLE: Duration = Duration::from_secs(3600);

/// Follows the clock until shutdown.
pub async fn run(manager: Arc<Manager>, shutdown: CancellationToken) {
    let (mut steps, mut jumps) = (manager.clock.steps(), manager.jumps.subscribe());
    let (mut since, mut seen) = (None, 0);
    loop {
        let look = if since.is_some() { LOOK_IN_DOUBT } else { LOOK_EVERY };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = steps.next() => {}
            // Somebody else has looked.
            Ok(()) = jumps.changed() => {}
            () = tokio::time::sleep(look) => {}
        }
        let now = clock::timer();
        let doubt = manager.look();
        let count = *jumps.borrow_and_update();
        let jumped = std::mem::replace(&mut seen, count) != count;
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
    }
}

impl Manager {
    fn looked(&self) -> MutexGuard<'_, Reading> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether the time is to be believed, and plans again if it jumped since the last look.
    pub(super) fn look(&self) -> Option<Doubt> {
        let now = self.clock.read();
        if std::mem::replace(&mut *self.looked(), now).jumped_since(&now) {
            self.clock_jumped(now.wall);
        }
        let doubt = self.guard().doubt(now);
        metrics::gauge!("svidecar_agent_clock_doubtful").set(f64::from(u8::from(doubt.is_some())));
        self.cache().doubt(doubt.is_some());
        doubt
    }

    fn clock_jumped(&self, now: SystemTime) {
        self.cache().clock_jumped(now);
        self.jumps.send_modify(|jumps| *jumps += 1);
        self.due.notify_one();
    }
}
