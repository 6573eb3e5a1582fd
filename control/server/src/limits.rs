//! How often callers may ask for what is dear: attestation and signatures.
//!
//! Each caller has a bucket of its own, named after the token or the agent, so that many agents behind one
//! address do not starve each other. A caller that is a little early waits; one that is far ahead is refused.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use svidecar_config::server::RateLimitSettings;
use svidecar_id::SpiffeId;
use svidecar_process::clock;
use tokio::time::{self, Instant};

/// Longest that a call is held back before it is refused instead.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Buckets kept per limit; when there are more, those that are full again are forgotten.
const MAX_BUCKETS: usize = 10_000;

/// A caller is too far ahead. The sentence is SPIRE's, with when to come again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rejecting request due to {what} rate limiting; try again in {} seconds", wait.as_secs().max(1))]
pub struct RateLimited {
    what: &'static str,
    wait: Duration,
}

/// All limits.
pub struct Limits {
    attest_by_token: Option<Limit<String>>,
    attest_by_address: Option<Limit<IpAddr>>,
    sign: Option<Limit<SpiffeId>>,
    post_status: Limit<SpiffeId>,
    publish: Limit<SpiffeId>,
}

impl Limits {
    /// The limits that the settings switch on.
    pub fn new(settings: &RateLimitSettings) -> Self {
        Self {
            attest_by_token: settings.attestation.then(|| Limit::new(1.0, 5.0)),
            attest_by_address: settings.attestation.then(|| Limit::new(50.0, 200.0)),
            sign: settings.signing.then(|| Limit::new(500.0, 1000.0)),
            post_status: Limit::new(10.0, 10.0),
            publish: Limit::new(1.0, 10.0),
        }
    }

    /// One attempt to attest with a token from an address.
    pub async fn attest(&self, token: &str, address: Option<IpAddr>) -> Result<(), RateLimited> {
        if let (Some(limit), Some(address)) = (&self.attest_by_address, address) {
            limit.take(address, 1, "attest agent").await?;
        }
        if let Some(limit) = &self.attest_by_token {
            limit.take(token.chars().take(64).collect(), 1, "attest agent").await?;
        }
        Ok(())
    }

    /// `count` signatures for an agent.
    pub async fn sign(&self, agent: &SpiffeId, count: usize) -> Result<(), RateLimited> {
        match &self.sign {
            Some(limit) => limit.take(agent.clone(), count, "signing").await,
            None => Ok(()),
        }
    }

    /// One report of an agent.
    pub async fn post_status(&self, agent: &SpiffeId) -> Result<(), RateLimited> {
        self.post_status.take(agent.clone(), 1, "post status").await
    }

    /// One token key of a server below this one.
    pub async fn publish(&self, server: &SpiffeId) -> Result<(), RateLimited> {
        self.publish.take(server.clone(), 1, "push JWT key").await
    }
}

/// Token buckets of one size.
struct Limit<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// May be below zero: taken in advance by those that wait.
    level: f64,
    at: Instant,
}

impl<K: Hash + Eq> Limit<K> {
    fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, buckets: Mutex::default() }
    }

    async fn take(&self, key: K, count: usize, what: &'static str) -> Result<(), RateLimited> {
        let wait = self.reserve(key, count, clock::timer());
        if wait > MAX_WAIT {
            return Err(RateLimited { what, wait });
        }
        if !wait.is_zero() {
            time::sleep(wait).await;
        }
        Ok(())
    }

    /// Takes from the bucket and says how long to wait for it. Nothing is taken when that is too long.
    fn reserve(&self, key: K, count: usize, now: Instant) -> Duration {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| self.filled(*bucket, now) < self.burst);
        }
        // More callers at once than there are buckets: the newcomers share the fate of an empty one.
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            return MAX_WAIT + Duration::from_secs(1);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { level: self.burst, at: now });
        let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let level = self.filled(*bucket, now) - count;
        let wait = Duration::from_secs_f64((-level).max(0.0) / self.per_second);
        if wait <= MAX_WAIT {
            *bucket = Bucket { level, at: now };
        }
        wait
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        (bucket.level + gained).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_then_it_waits_then_it_is_refused() {
        let limit = Limit::new(1.0, 2.0);
        let start = clock::timer();
        assert_eq!(limit.reserve("a", 2, start), Duration::ZERO);
        assert_eq!(limit.reserve("a", 1, start), SECOND);
        assert!(limit.reserve("a", 5, start) > MAX_WAIT);
        // Another caller is not touched, and what was refused took nothing.
        assert_eq!(limit.reserve("b", 2, start), Duration::ZERO);
        assert_eq!(limit.reserve("a", 1, start), 2 * SECOND);
        assert_eq!(limit.reserve("a", 2, start + 4 * SECOND), Duration::ZERO);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let limit = Limit::new(1.0, 1.0);
        let start = clock::timer();
        for key in 0..MAX_BUCKETS {
            assert_eq!(limit.reserve(key, 1, start), Duration::ZERO);
        }
        assert!(limit.reserve(MAX_BUCKETS, 1, start) > MAX_WAIT);
        assert_eq!(limit.reserve(MAX_BUCKETS, 1, start + SECOND), Duration::ZERO);
        assert_eq!(limit.buckets.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_refused_says_when_to_come_again() {
        let limit = Limit::new(1.0, 1.0);
        let refused = limit.take("a", 11, "signing").await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "rejecting request due to signing rate limiting; try again in 10 seconds"
        );
    }
}
