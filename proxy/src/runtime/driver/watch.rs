//! When the other side is looked after: while streams run, and no less often if each of them is short.
//!
//! Never sets a timer: a connection on which nothing runs wakes nobody.

use std::time::Duration;

use svidecar_process::clock;
use tokio::time::Instant;

use crate::http2::{PROBE_EVERY, Session, TEND_EVERY};

/// The next look at a connection.
#[derive(Debug)]
pub(super) struct Watch {
    probes: bool,
    next: Option<Instant>,
    tended: Instant,
}

impl Watch {
    /// Looks whether streams stand still, and, if it `probes`, whether the other side is still there.
    pub fn new(probes: bool) -> Self {
        Self { probes, next: None, tended: clock::timer() }
    }

    /// Nothing runs now. What the peer owes is not forgotten: callers who give up early would put the look off for ever,
    /// and each next one would be sent to a peer that is gone.
    pub fn rest(&mut self, session: &Session) {
        if session.is_heard() {
            self.next = None;
        }
    }

    /// When to look, now that streams run; may be past.
    pub fn due(&mut self) -> Option<Instant> {
        if self.next.is_none() {
            self.next = clock::timer().checked_add(self.every());
        }
        self.next
    }

    /// Looks.
    pub fn look(&mut self, session: &Session) {
        if self.probes {
            session.probe();
        }
        if clock::timer() - self.tended >= TEND_EVERY {
            self.tended = clock::timer();
            session.tend();
        }
        self.next = clock::timer().checked_add(self.every());
    }

    const fn every(&self) -> Duration {
        if self.probes { PROBE_EVERY } else { TEND_EVERY }
    }
}
