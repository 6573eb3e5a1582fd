//! When a peer is looked after: while streams run, and no less often if each of them is short.
//!
//! Owns one moment. Never sets a timer: a connection on which nothing runs wakes nobody.

use std::time::Duration;

use tokio::time::Instant;

use super::Session;

/// The next look at a connection, such as [`Session::probe`].
#[derive(Debug)]
pub struct Watch {
    every: Duration,
    next: Option<Instant>,
}

impl Watch {
    /// A look each `every`.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        Self { every, next: None }
    }

    /// Nothing runs now. What the peer owes is not forgotten: callers who give up early would put the look off for ever,
    /// and each next one would be sent to a peer that is gone.
    pub fn rest(&mut self, session: &Session) {
        if session.is_heard() {
            self.next = None;
        }
    }

    /// When to look, now that streams run; may be past.
    #[must_use]
    pub fn due(&mut self) -> Option<Instant> {
        if self.next.is_none() {
            self.looked();
        }
        self.next
    }

    /// It was looked just now.
    pub fn looked(&mut self) {
        self.next = Instant::now().checked_add(self.every);
    }
}
