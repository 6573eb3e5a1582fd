//! Keeps a flood of equal misfortunes from becoming a flood of log lines. What counts them all is elsewhere.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Subjects that are remembered; with more, the log says more.
const MAX_SUBJECTS: usize = 1024;

/// Lets the first lines about each subject pass in each window of time, and counts the rest.
pub struct Throttle<S = ()> {
    lines: u32,
    window: Duration,
    said: Mutex<HashMap<S, Window>>,
}

struct Window {
    since: Instant,
    said: u32,
    kept_back: u64,
}

/// Leave to write one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Lines that were kept back since the last one; for a field of this line.
    pub kept_back: Option<u64>,
}

impl<S: Eq + Hash> Throttle<S> {
    /// Lets `lines` about each subject pass in each `window`.
    #[must_use]
    pub fn new(lines: u32, window: Duration) -> Self {
        Self { lines, window, said: Mutex::default() }
    }

    /// Whether a line about `subject` may be written at `now`.
    pub fn leave_for(&self, subject: S, now: Instant) -> Option<Leave> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= MAX_SUBJECTS {
            said.retain(|_, window| !self.is_over(window, now));
            if said.len() >= MAX_SUBJECTS {
                said.clear();
            }
        }
        let window = said.entry(subject).or_insert(Window { since: now, said: 0, kept_back: 0 });
        if self.is_over(window, now) {
            window.since = now;
            window.said = 0;
        }
        if window.said >= self.lines {
            window.kept_back += 1;
            return None;
        }
        window.said += 1;
        let kept_back = std::mem::take(&mut window.kept_back);
        Some(Leave { kept_back: (kept_back > 0).then_some(kept_back) })
    }

    fn is_over(&self, window: &Window, now: Instant) -> bool {
        now.saturating_duration_since(window.since) >= self.window
    }
}

impl Throttle {
    /// Whether a line may be written at `now`.
    pub fn leave(&self, now: Instant) -> Option<Leave> {
        self.leave_for((), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn a_flood_becomes_a_number() {
        let throttle = Throttle::new(20, WINDOW);
        let start = clock::monotonic();
        let said = (0..100).filter(|_| throttle.leave(start).is_some()).count();
        assert_eq!(said, 20);
        assert_eq!(throttle.leave(start + WINDOW), Some(Leave { kept_back: Some(80) }));
        assert_eq!(throttle.leave(start + WINDOW), Some(Leave { kept_back: None }));
    }

    #[test]
    fn each_subject_has_lines_of_its_own() {
        let throttle = Throttle::new(1, WINDOW);
        let start = clock::monotonic();
        assert!(throttle.leave_for("a", start).is_some());
        assert!(throttle.leave_for("b", start).is_some());
        assert!(throttle.leave_for("a", start + WINDOW - Duration::from_secs(1)).is_none());
        assert_eq!(throttle.leave_for("a", start + WINDOW), Some(Leave { kept_back: Some(1) }));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let throttle = Throttle::new(1, WINDOW);
        let start = clock::monotonic();
        assert!((0..3 * MAX_SUBJECTS).all(|subject| throttle.leave_for(subject, start).is_some()));
        assert!(throttle.said.lock().unwrap().len() <= MAX_SUBJECTS);
    }
}
