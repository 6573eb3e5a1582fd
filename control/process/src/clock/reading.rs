//! What the clocks show. The only file that asks the system for the time.

#![expect(clippy::disallowed_methods, reason = "here they are allowed, so that they are nowhere else")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use rustls_pki_types::UnixTime;

/// Less is no jump: clocks that are kept in time by the network are moved a little all the time.
const LEAST_JUMP: Duration = Duration::from_secs(1);

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

/// What three clocks show at one moment. Two readings tell what became of the time of day in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The time of day, which somebody may set.
    pub wall: SystemTime,
    /// How long the machine has been up and awake (`CLOCK_MONOTONIC`): it stands still while the machine is suspended, and
    /// with it every timer.
    pub awake: Duration,
    /// How long the machine has been up (`CLOCK_BOOTTIME`): it goes on while the machine is suspended.
    pub up: Duration,
}

impl Reading {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let clock = |id| Duration::try_from(clock_gettime(id)).unwrap_or_default();
        Self { wall: wall(), awake: clock(ClockId::Monotonic), up: clock(ClockId::Boottime) }
    }

    /// As of clocks that have gone truly since 1970.
    #[must_use]
    pub fn true_since_1970(wall: SystemTime) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall, awake: since, up: since }
    }

    /// The time of day in whole seconds since 1970, and no time before.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// The time of day that it would be now, had nobody set the clock since this reading.
    #[must_use]
    pub fn expects(&self, now: &Self) -> SystemTime {
        self.wall + now.up.saturating_sub(self.up)
    }

    /// By how much the time of day was set since this reading: forward, or back.
    #[must_use]
    pub fn set_since(&self, now: &Self) -> Set {
        let expected = self.expects(now);
        match now.wall.duration_since(expected) {
            Ok(forward) => Set::Forward(forward),
            Err(back) => Set::Back(back.duration()),
        }
    }

    /// Whether the time of day was set since this reading, or the machine was suspended: timers are of another time than.
    #[must_use]
    pub fn jumped_since(&self, now: &Self) -> bool {
        self.set_since(now).by() >= LEAST_JUMP || self.slept_since(now) >= LEAST_JUMP
    }

    /// How long the machine was suspended since this reading.
    #[must_use]
    pub fn slept_since(&self, now: &Self) -> Duration {
        now.up.saturating_sub(self.up).saturating_sub(now.awake.saturating_sub(self.awake))
    }
}

/// How the time of day was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// It is later than it would be, or the same.
    Forward(Duration),
    /// It is earlier than it would be.
    Back(Duration),
}

impl Set {
    /// By how much, in whichever direction.
    #[must_use]
    pub const fn by(self) -> Duration {
        match self {
            Self::Forward(by) | Self::Back(by) => by,
        }
    }

    /// The same in seconds, negative for back.
    #[must_use]
    pub fn seconds(self) -> i64 {
        let seconds = i64::try_from(self.by().as_secs()).unwrap_or(i64::MAX);
        if matches!(self, Self::Back(_)) { -seconds } else { seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_was_set_and_a_machine_that_slept_are_told_apart() {
        let start = Reading::true_since_1970(UNIX_EPOCH + 1_000_000 * HOUR);
        let passed = Reading { wall: start.wall + HOUR, awake: start.awake + HOUR, up: start.up + HOUR };
        assert_eq!(
            (start.set_since(&passed), start.slept_since(&passed)),
            (Set::Forward(Duration::ZERO), Duration::ZERO)
        );
        let slept = Reading { awake: start.awake, ..passed };
        assert_eq!(
            (start.set_since(&slept), start.slept_since(&slept)),
            (Set::Forward(Duration::ZERO), HOUR)
        );
        let ahead = Reading { wall: passed.wall + HOUR, ..passed };
        assert_eq!(
            (start.set_since(&ahead), start.slept_since(&ahead)),
            (Set::Forward(HOUR), Duration::ZERO)
        );
        let behind = Reading { wall: passed.wall - HOUR, ..passed };
        assert_eq!(start.set_since(&behind), Set::Back(HOUR));
        assert_eq!(start.set_since(&behind).seconds(), -3600);
    }

    #[test]
    fn the_systems_clocks_go_forward_and_agree() {
        let (first, second) = (Reading::now(), Reading::now());
        assert!(first.awake <= second.awake && first.up <= second.up && first.up >= first.awake);
        assert!(first.set_since(&second).by() < HOUR);
    }
}
