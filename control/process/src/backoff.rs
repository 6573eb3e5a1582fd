//! How long to wait before something that failed is tried again. Pure: chance is an argument.

use std::time::Duration;

/// Waits that grow from try to try. Each is between half of its length and all of it, so that those who failed together
/// do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits that begin at `first` and double up to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The wait before the next try; `spread`, from 0 to 1, picks its place between half and all of its length.
    pub fn next_wait(&mut self, spread: f64) -> Duration {
        let whole = self.first.saturating_mul(1 << self.tries.min(16)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0)
    }

    /// How many waits there were since the last success.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }

    /// It worked: the next failure starts from the shortest wait.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let waits: Vec<_> = (0..11).map(|_| backoff.next_wait(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.next_wait(0.0), Duration::from_secs(15));
        assert_eq!(backoff.tries(), 12);
        backoff.reset();
        assert_eq!(backoff.next_wait(0.0), Duration::from_millis(50));
    }

    #[test]
    fn many_tries_overflow_nothing() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        assert!((0..1000).all(|_| backoff.next_wait(0.5) >= Duration::from_millis(750)));
    }
}
