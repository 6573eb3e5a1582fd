//! Whether a member of an upstream works, by what became of those who wanted something of it.
//!
//! Owns one moment. Never asks a member anything by itself.

use std::{cell::Cell, time::Duration};

use svidecar_process::clock;
use tokio::time::Instant;

/// Who failed is passed over for this long while another one works.
const PENALTY: Duration = Duration::from_secs(1);

/// The state of one member, as one worker sees it.
#[derive(Debug, Default)]
pub struct Health {
    avoid_until: Cell<Option<Instant>>,
}

impl Health {
    /// Whether it failed a moment ago.
    #[must_use]
    pub fn is_avoided(&self) -> bool {
        self.avoid_until.get().is_some_and(|until| until > clock::timer())
    }

    /// It gave what was wanted.
    pub fn works(&self) {
        self.avoid_until.set(None);
    }

    /// It did not.
    pub fn failed(&self) {
        self.avoid_until.set(clock::timer().checked_add(PENALTY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_forgotten_after_a_second_or_with_the_next_success() {
        let health = Health::default();
        assert!(!health.is_avoided());
        health.failed();
        tokio::time::advance(PENALTY - Duration::from_millis(1)).await;
        assert!(health.is_avoided());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!health.is_avoided());
        health.failed();
        health.works();
        assert!(!health.is_avoided());
    }
}
