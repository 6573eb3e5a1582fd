//! Keeps a flood of equal misfortunes from becoming a flood of log lines. The access log and the metrics still have each.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one window.
const LINES: u32 = 20;

/// Lets the first lines of each window pass and counts the rest.
#[derive(Default)]
pub struct Throttle {
    state: Mutex<Option<Window>>,
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

impl Throttle {
    /// Whether a line may be written at `now`.
    pub fn leave(&self, now: Instant) -> Option<Leave> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let window = state.get_or_insert(Window { since: now, said: 0, kept_back: 0 });
        if now.saturating_duration_since(window.since) >= WINDOW {
            window.since = now;
            window.said = 0;
        }
        if window.said >= LINES {
            window.kept_back += 1;
            return None;
        }
        window.said += 1;
        let kept_back = std::mem::take(&mut window.kept_back);
        Some(Leave { kept_back: (kept_back > 0).then_some(kept_back) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_number() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let said = (0..100).filter(|_| throttle.leave(start).is_some()).count();
        assert_eq!(said, 20);
        assert_eq!(throttle.leave(start + WINDOW), Some(Leave { kept_back: Some(80) }));
        assert_eq!(throttle.leave(start + WINDOW), Some(Leave { kept_back: None }));
    }
}
