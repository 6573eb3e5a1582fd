//! Keeps a flood of equal misfortunes from becoming a flood of log lines. What counts them all is elsewhere.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Subjects that are remembered; with more, the log says more.
const MAX_SUBJECTS: usize = 1024;

/// Lines that strangers cause: so many of each, so many of all together, in so much time.
const OF_A_STRANGER: u32 = 10;
const OF_ALL_STRANGERS: u32 = 1000;
const STRANGERS_WINDOW: Duration = Duration::from_secs(10);

static KEPT_BACK: AtomicU64 = AtomicU64::new(0);

/// Lets the first lines about each subject pass in each window of time, and counts the rest.
pub struct Throttle<S = ()> {
    lines: u32,
    lines_of_all: u32,
    window: Duration,
    said: Mutex<Said<S>>,
}

struct Said<S> {
    of: HashMap<S, Window>,
    of_all: Window,
}

#[derive(Clone, Copy)]
struct Window {
    /// None before the first line.
    since: Option<Instant>,
    said: u32,
    kept_back: u64,
}

/// Leave to write one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// Lines that were kept back since the last one; for a field of this line.
    pub kept_back: Option<u64>,
}

impl<S: Eq + Hash> Throttle<S> {
    /// Lets `lines` about each subject pass in each `window`.
    #[must_use]
    pub fn new(lines: u32, window: Duration) -> Self {
        let said = Said { of: HashMap::new(), of_all: Window::NEW };
        Self { lines, lines_of_all: u32::MAX, window, said: Mutex::new(said) }
    }

    /// For failures before somebody has proven who it is, by the stranger that causes them.
    #[must_use]
    pub fn of_strangers() -> Self {
        Self { lines_of_all: OF_ALL_STRANGERS, ..Self::new(OF_A_STRANGER, STRANGERS_WINDOW) }
    }

    /// Whether a line about `subject` may be written at `now`.
    pub fn leave_for(&self, subject: S, now: Instant) -> Option<Leave> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Said { of, of_all } = &mut *said;
        if of.len() >= MAX_SUBJECTS {
            of.retain(|_, window| !window.is_over(self.window, now));
            if of.len() >= MAX_SUBJECTS {
                of.clear();
            }
        }
        let window = of.entry(subject).or_insert(Window::NEW);
        window.renew(self.window, now);
        of_all.renew(self.window, now);
        if window.said >= self.lines || of_all.said >= self.lines_of_all {
            window.kept_back += 1;
            KEPT_BACK.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        window.said += 1;
        of_all.said += 1;
        let kept_back = std::mem::take(&mut window.kept_back);
        Some(Leave { kept_back: (kept_back > 0).then_some(kept_back) })
    }
}

impl Window {
    const NEW: Self = Self { since: None, said: 0, kept_back: 0 };

    fn is_over(&self, length: Duration, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= length)
    }

    fn renew(&mut self, length: Duration, now: Instant) {
        if self.is_over(length, now) {
            self.since = Some(now);
            self.said = 0;
        }
    }
}

/// Lines that were kept back in this process, by all.
pub(crate) fn kept_back() -> u64 {
    KEPT_BACK.load(Ordering::Relaxed)
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
        assert!(throttle.said.lock().unwrap().of.len() <= MAX_SUBJECTS);
    }

    #[test]
    fn many_strangers_say_no_more_than_all_may() {
        let throttle = Throttle::of_strangers();
        let start = clock::monotonic();
        let said = (0..100_000).filter(|stranger| throttle.leave_for(*stranger, start).is_some()).count();
        assert_eq!(said, 1000);
        let said = (0..100).filter(|_| throttle.leave_for(7, start + STRANGERS_WINDOW).is_some()).count();
        assert_eq!(said, 10);
        assert!(kept_back() >= 99_000);
    }
}
