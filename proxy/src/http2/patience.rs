//! How much of what costs us and brings nobody anything is taken from a peer, before the connection is ended with
//! `ENHANCE_YOUR_CALM` (RFC 9113 §10.5).

use std::time::Duration;

use svidecar_process::clock;
use tokio::time::Instant;

/// A store that is spent on what is suspicious, and refilled by what is useful and by time.
#[derive(Debug)]
pub struct Patience {
    left: u32,
    most: u32,
    per_second: u32,
    refilled: Instant,
}

impl Patience {
    /// A full store of `most`, refilled by `per_second`.
    pub fn new(most: u32, per_second: u32) -> Self {
        Self { left: most, most, per_second, refilled: clock::timer() }
    }

    /// Spends. Says whether there was enough left. Looks at the clock only if there was not.
    pub fn spend(&mut self, cost: u32) -> bool {
        if self.left < cost {
            self.refill();
        }
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Something useful happened.
    pub fn earn(&mut self, worth: u32) {
        self.left = self.most.min(self.left + worth);
    }

    fn refill(&mut self) {
        let now = clock::timer();
        let passed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(3600));
        let refill = u128::from(self.per_second) * passed.as_millis() / 1000;
        if refill > 0 {
            self.refilled = now;
            self.earn(u32::try_from(refill).unwrap_or(u32::MAX).min(self.most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_and_comes_back_with_time_and_use() {
        let mut patience = Patience::new(10, 5);
        assert_eq!((0..20).filter(|_| patience.spend(1)).count(), 10);
        patience.earn(2);
        assert!(patience.spend(2) && !patience.spend(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(patience.spend(5) && !patience.spend(1));
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert!(patience.spend(10) && !patience.spend(1));
    }
}
