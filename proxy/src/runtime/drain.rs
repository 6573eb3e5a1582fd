//! The way down: what has been asked to end, and what still lives.
//!
//! One deadline for everything. Inbound goes first; outbound listens on until no peer waits for an answer, because
//! an app that finishes its last requests still calls others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use svidecar_process::clock;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

pub use crate::record::Direction;

/// How far the way down has been gone. Only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Inbound connections finish what they do; no new ones. Outbound goes on.
    Inbound,
    /// Outbound connections finish too.
    Everything,
    /// Whatever is left is cut.
    Force,
}

/// The phase, and how many connections live in each direction.
#[derive(Clone)]
pub struct Drain {
    inner: Arc<Inner>,
}

struct Inner {
    phase: watch::Sender<Phase>,
    inbound: Live,
    outbound: Live,
}

#[derive(Default)]
struct Live {
    count: AtomicUsize,
    none_left: Notify,
}

/// Held by a connection for as long as it lives.
pub struct Counted {
    inner: Arc<Inner>,
    direction: Direction,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Starts in [`Phase::Running`].
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            phase: watch::Sender::new(Phase::Running),
            inbound: Live::default(),
            outbound: Live::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Follows the phase.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.inner.phase.subscribe()
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.inner.phase.borrow()
    }

    /// Counts one more live connection until the guard goes.
    #[must_use]
    pub fn enter(&self, direction: Direction) -> Counted {
        self.inner.live(direction).count.fetch_add(1, Ordering::Relaxed);
        Counted { inner: Arc::clone(&self.inner), direction }
    }

    /// Live connections in one direction.
    #[must_use]
    pub fn live(&self, direction: Direction) -> usize {
        self.inner.live(direction).count.load(Ordering::Acquire)
    }

    /// Cuts everything at once: what a second signal asks for.
    pub fn force(&self) {
        self.enter_phase(Phase::Force);
    }

    /// Goes all the way down within `timeout`. Returns whether every connection ended by itself.
    pub async fn run(&self, timeout: Duration) -> bool {
        let deadline = clock::timer() + timeout;
        info!(
            inbound = self.live(Direction::Inbound),
            outbound = self.live(Direction::Outbound),
            timeout = ?timeout,
            "Draining: inbound connections finish their requests, no new ones are accepted"
        );
        self.enter_phase(Phase::Inbound);
        let graceful = async {
            self.none_left(Direction::Inbound).await;
            info!(
                outbound = self.live(Direction::Outbound),
                "No inbound connection is left; outbound connections finish"
            );
            self.enter_phase(Phase::Everything);
            self.none_left(Direction::Outbound).await;
        };
        let mut phase = self.subscribe();
        let forced = async {
            // The sender lives in `self`, so this waits for the phase and cannot fail.
            let _ = phase.wait_for(|phase| *phase == Phase::Force).await;
        };
        tokio::select! {
            () = graceful => true,
            () = forced => false,
            () = tokio::time::sleep_until(deadline) => {
                warn!(
                    inbound = self.live(Direction::Inbound),
                    outbound = self.live(Direction::Outbound),
                    "The drain timeout is over; connections that are left are cut"
                );
                self.force();
                false
            }
        }
    }

    fn enter_phase(&self, next: Phase) {
        self.inner.phase.send_if_modified(|phase| {
            let grows = next > *phase;
            if grows {
                *phase = next;
            }
            grows
        });
    }

    async fn none_left(&self, direction: Direction) {
        let live = self.inner.live(direction);
        loop {
            let notified = live.none_left.notified();
            if live.count.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Inner {
    fn live(&self, direction: Direction) -> &Live {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let live = self.inner.live(self.direction);
        if live.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            live.none_left.notify_waiters();
        }
    }
}

/// Whether a direction is being drained in this phase.
#[must_use]
pub fn reaches(phase: Phase, direction: Direction) -> bool {
    match direction {
        Direction::Inbound => phase >= Phase::Inbound,
        Direction::Outbound => phase >= Phase::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn outbound_ends_after_inbound() {
        let drain = Drain::new();
        let inbound = drain.enter(Direction::Inbound);
        let outbound = drain.enter(Direction::Outbound);
        let mut phase = drain.subscribe();
        let run = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run(LONG).await }
        });
        phase.wait_for(|phase| *phase == Phase::Inbound).await.unwrap();
        assert!(!reaches(drain.phase(), Direction::Outbound));
        drop(inbound);
        phase.wait_for(|phase| *phase == Phase::Everything).await.unwrap();
        drop(outbound);
        assert!(run.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_cuts_what_is_left() {
        let drain = Drain::new();
        let _stuck = drain.enter(Direction::Inbound);
        let start = clock::timer();
        assert!(!drain.run(LONG).await);
        assert_eq!(clock::timer() - start, LONG);
        assert_eq!(drain.phase(), Phase::Force);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_forces() {
        let drain = Drain::new();
        let _stuck = drain.enter(Direction::Outbound);
        let mut phase = drain.subscribe();
        let run = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run(LONG).await }
        });
        phase.wait_for(|phase| *phase >= Phase::Everything).await.unwrap();
        drain.force();
        assert!(!run.await.unwrap());
    }
}
