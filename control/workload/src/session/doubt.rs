//! For how long an agent that cannot find out who asks has not said "no". Pure: the time is given.
//!
//! PermissionDenied takes everything back (I13). But a process that the agent cannot see for a moment, or a container engine that
//! does not answer it, says nothing of our registration entries.

use std::time::Duration;

use tokio::time::Instant;

use crate::identity::IdentityState;

/// After this long it counts as the "no" that it is by the letter: by then an entry may have been deleted, and the agent
/// could not tell us.
const PATIENCE: Duration = Duration::from_secs(60);

/// Since when there is doubt.
#[derive(Default)]
pub(super) struct Doubt(Option<Instant>);

impl Doubt {
    /// Whether a session that ended in `state` at `now` takes back what there is. `delivered` says whether it gave anything.
    pub(super) fn takes_back(&mut self, state: IdentityState, delivered: bool, now: Instant) -> bool {
        if delivered {
            self.0 = None;
        }
        match state {
            IdentityState::NotIssued => {
                self.0 = None;
                true
            }
            IdentityState::NotAttested => now.duration_since(*self.0.get_or_insert(now)) >= PATIENCE,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use svidecar_process::clock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_agent_that_does_not_know_us_for_a_minute_has_said_no() {
        let start = clock::timer();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut doubt = Doubt::default();
        let unknown = IdentityState::NotAttested;
        assert!(!doubt.takes_back(unknown, true, at(0)));
        assert!(!doubt.takes_back(IdentityState::Unavailable, false, at(30)));
        assert!(!doubt.takes_back(unknown, false, at(59)));
        assert!(doubt.takes_back(unknown, false, at(60)) && doubt.takes_back(unknown, false, at(61)));
        assert!(!doubt.takes_back(unknown, true, at(62)), "it knew us meanwhile");
        assert!(!doubt.takes_back(unknown, false, at(121)));
        assert!(doubt.takes_back(unknown, false, at(122)));
    }

    /// I13
    #[tokio::test(start_paused = true)]
    async fn a_no_is_a_no_at_once() {
        let mut doubt = Doubt::default();
        assert!(doubt.takes_back(IdentityState::NotIssued, false, clock::timer()));
    }
}
