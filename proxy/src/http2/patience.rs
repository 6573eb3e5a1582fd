//! How much of what costs us and brings nobody anything is taken from a peer, before the connection is ended with
//! `ENHANCE_YOUR_CALM` (RFC 9113 §10.5).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use svidecar_process::clock;
use tokio::time::Instant;

/// A store that is spent on what is suspicious, and refilled by what is useful and by time.
#[derive(Debug)]
pub struct Patience {
    left: u32,
    most: u32,
    per_second: u32,
    refilled: Instant,
    /// What time refills it from, where others share that.
    pool: Option<Arc<Pool>>,
}

/// What time brings to all connections of one peer together: as much as to eight of them.
#[derive(Debug)]
pub struct Pool(Mutex<Patience>);

impl Default for Pool {
    fn default() -> Self {
        Self(Mutex::new(Patience::new(8000, 8000)))
    }
}

impl Pool {
    /// Takes what there is, `wanted` at the most.
    fn draw(&self, wanted: u32) -> u32 {
        let mut patience = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        patience.refill();
        let drawn = wanted.min(patience.left);
        patience.left -= drawn;
        drawn
    }
}

impl Patience {
    /// A full store of `most`, refilled by `per_second`.
    pub fn new(most: u32, per_second: u32) -> Self {
        Self { left: most, most, per_second, refilled: clock::timer(), pool: None }
    }

    /// From now on time refills it from there.
    pub fn share(&mut self, pool: Arc<Pool>) {
        self.pool = Some(pool);
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
            let refill = u32::try_from(refill).unwrap_or(u32::MAX).min(self.most);
            let refill = self.pool.as_ref().map_or(refill, |pool| pool.draw(refill));
            self.refilled = now;
            self.earn(refill);
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
    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_connections_is_not_endured_more_for_each() {
        let connections = |pool: &Arc<Pool>| {
            let mut all: Vec<_> = (0..100).map(|_| Patience::new(1000, 1000)).collect();
            all.iter_mut().for_each(|patience| {
                patience.share(Arc::clone(pool));
                patience.spend(1000);
            });
            all
        };
        let endured = |all: &mut Vec<Patience>| {
            all.iter_mut().map(|patience| (0..1000).filter(|_| patience.spend(1)).count()).sum::<usize>()
        };
        let (greedy, other) = (Arc::<Pool>::default(), Arc::<Pool>::default());
        let (mut many, mut one) = (connections(&greedy), vec![connections(&other).remove(0)]);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!((endured(&mut many), endured(&mut one)), (8000, 1000));
        }
    }
}
