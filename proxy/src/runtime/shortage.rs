//! What the threads tell each other when descriptors or memory run short: idle connections are to make room.
//!
//! Says only that; who makes room is found by each thread among its own ([`Registry`](super::connections::Registry), the pools of
//! `upstream`).

use std::time::Duration;

use svidecar_process::clock;
use tokio::{sync::watch, time::Instant};

/// Making room takes a moment; until then it is not asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How long somebody who needs room waits for others to make it.
pub const ROOM_IS_MADE: Duration = Duration::from_millis(20);

/// Asks for room.
pub struct Shortage(watch::Sender<Option<Instant>>);

impl Default for Shortage {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Shortage {
    /// Asks all threads to make some room.
    pub fn tell(&self) {
        let now = clock::timer();
        self.0.send_if_modified(|last| {
            let is_due = last.is_none_or(|last| now.duration_since(last) >= ASK_AGAIN);
            if is_due {
                *last = Some(now);
            }
            is_due
        });
    }

    /// Follows what is asked for from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Instant>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_wishes_is_one() {
        let shortage = Shortage::default();
        let mut asked = shortage.subscribe();
        shortage.tell();
        shortage.tell();
        assert!(asked.has_changed().unwrap());
        asked.mark_unchanged();
        shortage.tell();
        assert!(!asked.has_changed().unwrap());
        tokio::time::advance(ASK_AGAIN).await;
        shortage.tell();
        assert!(asked.has_changed().unwrap());
    }
}
