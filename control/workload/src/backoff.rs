//! How long to wait before the Workload API is asked again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 100 ms to 30 s; each wait is between half of that and all of it, so that the workloads of one node do
/// not come back in step.
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The wait before the next attempt; `spread` in 0..1 picks its place in the jitter.
    pub(crate) fn wait(&mut self, spread: f64) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(LONGEST);
        wait.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0)
    }

    /// It worked: the next failure starts from the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_half_a_minute_and_starts_over() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..11).map(|_| backoff.wait(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.wait(0.0).as_millis(), 50);
    }
}
