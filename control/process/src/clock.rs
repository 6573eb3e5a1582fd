//! The only place where the time is read.
//!
//! Whoever decides by the time takes it as an argument, so that a test can say what time it is; whoever begins something
//! reads it here. There are three clocks: [`monotonic`] measures and never jumps, [`timer`] is the same as timers see it, so
//! that a test can stop it, and [`wall`] is the time of day, which somebody may set.

#![expect(clippy::disallowed_methods, reason = "here they are allowed, so that they are nowhere else")]

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::UnixTime;

/// Now, to measure how long something takes.
#[inline]
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Now, to say until when to wait.
#[inline]
#[must_use]
pub fn timer() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// The time of day.
#[inline]
#[must_use]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The time of day as certificates and tokens count it.
#[inline]
#[must_use]
pub fn unix() -> UnixTime {
    UnixTime::now()
}

/// A time of day that a test can set. A clone shows the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(wall)
    }

    /// A clock that asks `now` each time.
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now, as certificates and tokens count it.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.seconds_since_epoch()))
    }

    /// Now in seconds since the Unix epoch, as a store and the wire count it.
    #[must_use]
    pub fn unix(&self) -> i64 {
        i64::try_from(self.seconds_since_epoch()).unwrap_or(i64::MAX)
    }

    fn seconds_since_epoch(&self) -> u64 {
        (self.0)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_whole_seconds_and_nothing_before_1970() {
        let at = |now| Clock::from_fn(move || now);
        let clock = at(UNIX_EPOCH + Duration::from_millis(1_700_000_000_999));
        assert_eq!((clock.unix(), clock.now().as_secs()), (1_700_000_000, 1_700_000_000));
        assert_eq!(at(UNIX_EPOCH - Duration::from_secs(1)).unix(), 0);
    }
}
