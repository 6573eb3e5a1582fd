//! The one place where the server reads the time of day, so that tests can hold the hands.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use svidecar_authority::UnixTime;

/// Where "now" comes from. A clone shows the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
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

    /// Now in seconds since the Unix epoch, as the store and the wire count it.
    #[must_use]
    pub fn unix(&self) -> i64 {
        i64::try_from(self.seconds_since_epoch()).unwrap_or(i64::MAX)
    }

    fn seconds_since_epoch(&self) -> u64 {
        (self.0)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}
