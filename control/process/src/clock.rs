//! The only place where the time is read.
//!
//! Whoever decides by the time takes it as an argument, so that a test can say what time it is; whoever begins something
//! reads it here. There are three clocks: [`monotonic`] measures and never jumps, [`timer`] is the same as timers see it, so
//! that a test can stop it, and [`wall`] is the time of day, which somebody may set. What became of the time of day
//! between two moments is told by two [`Reading`]s, that it jumped by [`Steps`], and whether it is to be believed by [`Guard`].

mod guard;
mod reading;
mod steps;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::UnixTime;
use tokio::sync::watch;

pub use guard::{Doubt, DoubtKind, Guard, Seen};
pub use reading::{Reading, Set, monotonic, timer, unix, wall};
pub use steps::Steps;

/// A time of day that a test can set. A clone shows the same time.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Given { read: Arc<dyn Fn() -> Reading + Send + Sync>, steps: Option<watch::Receiver<u64>> },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that asks `now` each time, and has always gone truly: time passes in leaps, and nobody sets it.
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Source::Given { read: Arc::new(move || Reading::true_since_1970(now())), steps: None })
    }

    /// A clock that asks `read` each time, and jumps when `steps` says so.
    pub fn of_readings(
        read: impl Fn() -> Reading + Send + Sync + 'static,
        steps: watch::Receiver<u64>,
    ) -> Self {
        Self(Source::Given { read: Arc::new(read), steps: Some(steps) })
    }

    /// What all its hands show.
    #[must_use]
    pub fn read(&self) -> Reading {
        match &self.0 {
            Source::System => Reading::now(),
            Source::Given { read, .. } => read(),
        }
    }

    /// The time of day.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Source::System => wall(),
            Source::Given { read, .. } => read().wall,
        }
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

    /// Its jumps from now on. To be called inside a runtime.
    #[must_use]
    pub fn steps(&self) -> Steps {
        match &self.0 {
            Source::System => Steps::of_system(),
            Source::Given { steps: Some(steps), .. } => Steps::told_by(steps.clone()),
            Source::Given { steps: None, .. } => Steps::none(),
        }
    }

    fn seconds_since_epoch(&self) -> u64 {
        self.wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_clock_shows_whole_seconds_and_nothing_before_1970() {
        let at = |now| Clock::from_fn(move || now);
        let clock = at(UNIX_EPOCH + Duration::from_millis(1_700_000_000_999));
        assert_eq!((clock.unix(), clock.now().as_secs()), (1_700_000_000, 1_700_000_000));
        assert_eq!(at(UNIX_EPOCH - Duration::from_secs(1)).unix(), 0);
    }
}
