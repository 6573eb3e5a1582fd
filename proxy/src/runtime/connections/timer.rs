//! One moment that a task waits for, as one of the many of its worker: a place among the connections, and no timer of the
//! runtime.
//!
//! Never tells why the moment matters, and nothing of what else happens.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::registry::Registry;

/// A moment that is waited for, set anew for each thing that has one.
pub struct Timer {
    registry: Rc<Registry>,
    place: usize,
    at: Option<Instant>,
}

impl Timer {
    /// Without a moment.
    #[must_use]
    pub fn new(registry: &Rc<Registry>) -> Self {
        Self { place: registry.enter(), registry: Rc::clone(registry), at: None }
    }

    /// Waits for this moment from now on, or for none.
    pub fn set(&mut self, at: Option<Instant>) {
        if at.is_none() && self.at.is_some() {
            self.registry.rest(self.place);
        }
        self.at = at;
    }

    /// Ready at the moment, or shortly after.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        if at <= self.registry.clock() {
            return Poll::Ready(());
        }
        self.registry.wait(self.place, cx, Some(at));
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.registry.leave(self.place);
    }
}
