//! Whether the time of day is to be believed before something is done that cannot be undone.
//!
//! Pure: readings in, a doubt or none out. A time is believed when it goes on from one that was believed as fast as the
//! machine's uptime, which nobody can set; a machine that was suspended has that too. Everything that can be undone, or
//! that only adds, goes on by the time of day whatever it is; what deletes asks here first.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::reading::{Reading, Set};

/// The clock may be set by this much between two looks: nothing that is kept ends on the minute.
const TOLERANCE: Duration = Duration::from_secs(60);

/// After a boot the clock is whatever the hardware kept until the network has corrected it; it has to hold this long.
const SETTLE: Duration = Duration::from_secs(600);

/// No machine that runs this program is in a year before: 2026. A clock without a battery begins in 1970 or 2000.
const FIRST_SECOND: u64 = 1_767_225_600;

/// A time that was believed, as it is kept for the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The time of day, in seconds since 1970.
    pub at: u64,
    /// Which boot of the machine it was.
    pub boot: String,
    /// How long the machine had been up, in seconds.
    pub up: u64,
}

/// Why the time of day is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The time of day that is doubted.
    pub shown: SystemTime,
    /// The time of day that it would be, or the least that it could be.
    pub expected: SystemTime,
    /// What was noticed.
    pub kind: DoubtKind,
}

/// What was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubtKind {
    /// The clock was set by more than it is corrected by.
    Set(Set),
    /// It is earlier than a time that was seen before the machine was booted.
    BeforeSeen,
    /// It is earlier than this program.
    Impossible,
    /// The machine was booted a short while ago; it ends by itself.
    JustBooted {
        /// How long the time has to hold yet.
        left: Duration,
    },
}

impl Doubt {
    /// Whether somebody has to look at the clock: not where the doubt ends by itself.
    #[must_use]
    pub const fn concerns_somebody(&self) -> bool {
        !matches!(self.kind, DoubtKind::JustBooted { .. })
    }

    /// How far the time of day is from what is expected, in seconds; negative when it is behind.
    #[must_use]
    pub fn offset_seconds(&self) -> i64 {
        let seconds = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        match self.shown.duration_since(self.expected) {
            Ok(ahead) => seconds(ahead),
            Err(behind) => -seconds(behind.duration()),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time =
            |time: SystemTime| humantime(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let (shown, expected) = (time(self.shown), time(self.expected));
        match self.kind {
            DoubtKind::Set(Set::Forward(by)) => {
                write!(
                    f,
                    "the clock was set {} s forward: it shows {shown} where {expected} was expected",
                    by.as_secs()
                )
            }
            DoubtKind::Set(Set::Back(by)) => {
                write!(
                    f,
                    "the clock was set {} s back: it shows {shown} where {expected} was expected",
                    by.as_secs()
                )
            }
            DoubtKind::BeforeSeen => {
                write!(
                    f,
                    "the clock shows {shown}, and before the machine was booted it was {expected} already"
                )
            }
            DoubtKind::Impossible => {
                write!(f, "the clock shows {shown}, which is before this program was made")
            }
            DoubtKind::JustBooted { left } => {
                write!(
                    f,
                    "the machine was booted a short while ago; the clock's {shown} has to hold for {} s yet",
                    left.as_secs()
                )
            }
        }
    }
}

fn humantime(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("{seconds} s after 1970"), |time| time.to_string())
}

/// Follows the time of day.
#[derive(Clone, Debug)]
pub struct Guard {
    basis: Basis,
}

#[derive(Clone, Copy, Debug)]
enum Basis {
    /// A time that was believed.
    Line(Reading),
    /// The least that it can be, and since when the clock has not been set.
    AtLeast { least: Reading, steady: Reading },
}

impl Guard {
    /// Begins at `now`, in the boot of that name, with what the program saw before, if it ran before.
    #[must_use]
    pub fn begin(seen: Option<&Seen>, boot: &str, now: Reading) -> Self {
        let line = |seen: &Seen| Reading {
            wall: UNIX_EPOCH + Duration::from_secs(seen.at),
            awake: Duration::ZERO,
            up: Duration::from_secs(seen.up),
        };
        let basis = match seen {
            // Nothing is kept that could be deleted too early.
            None => Basis::Line(now),
            Some(seen) if !boot.is_empty() && seen.boot == boot => Basis::Line(line(seen)),
            Some(seen) => {
                let least = Reading { up: now.up, ..line(seen) };
                Basis::AtLeast { least, steady: now }
            }
        };
        Self { basis }
    }

    /// Looks at the clock. None when its time is to be believed; it is what the next look begins with then.
    pub fn doubt(&mut self, now: Reading) -> Option<Doubt> {
        let doubt = |expected, kind| Some(Doubt { shown: now.wall, expected, kind });
        match &mut self.basis {
            // From a time that cannot be, any that can be is a correction.
            Basis::Line(line) if line.seconds() < FIRST_SECOND => {
                if now.seconds() < FIRST_SECOND {
                    return doubt(UNIX_EPOCH + Duration::from_secs(FIRST_SECOND), DoubtKind::Impossible);
                }
            }
            Basis::Line(line) => {
                let set = line.set_since(&now);
                if set.by() > TOLERANCE {
                    return doubt(line.expects(&now), DoubtKind::Set(set));
                }
            }
            Basis::AtLeast { least, steady } => {
                if steady.set_since(&now).by() > TOLERANCE {
                    *steady = now;
                }
                let expected = least.expects(&now);
                if now.wall + TOLERANCE < expected {
                    return doubt(expected, DoubtKind::BeforeSeen);
                }
                let held = now.up.saturating_sub(steady.up);
                if held < SETTLE {
                    return doubt(expected, DoubtKind::JustBooted { left: SETTLE.saturating_sub(held) });
                }
            }
        }
        self.basis = Basis::Line(now);
        None
    }

    /// A person has said that the time of `now` is right.
    pub fn accept(&mut self, now: Reading) {
        self.basis = Basis::Line(now);
    }
}

impl Seen {
    /// The time of `now`, which was believed.
    #[must_use]
    pub fn of(now: &Reading, boot: &str) -> Self {
        Self { at: now.seconds(), boot: boot.to_owned(), up: now.up.as_secs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Hands;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn kind(guard: &mut Guard, hands: &Hands) -> Option<DoubtKind> {
        guard.doubt(hands.read()).map(|doubt| doubt.kind)
    }

    #[test]
    fn a_clock_that_goes_on_is_believed_whether_the_machine_is_awake_or_not() {
        let hands = Hands::still();
        let mut guard = Guard::begin(None, "a", hands.read());
        for _ in 0..48 {
            hands.pass(HOUR);
            // The network's corrections.
            hands.set(3);
            assert_eq!(kind(&mut guard, &hands), None);
        }
        hands.sleep(30 * DAY);
        assert_eq!(kind(&mut guard, &hands), None);
    }

    #[test]
    fn a_clock_that_was_set_is_doubted_until_it_is_back_or_somebody_says_that_it_is_right() {
        for by in [26 * 3600, -5 * 3600] {
            let hands = Hands::still();
            let mut guard = Guard::begin(None, "a", hands.read());
            hands.pass(HOUR);
            hands.set(by);
            let set = Duration::from_secs(by.unsigned_abs());
            let set = if by > 0 { Set::Forward(set) } else { Set::Back(set) };
            assert_eq!(kind(&mut guard, &hands), Some(DoubtKind::Set(set)));
            hands.pass(DAY);
            let doubt = guard.doubt(hands.read()).unwrap();
            assert!(doubt.concerns_somebody() && doubt.offset_seconds() == by, "{doubt}");
            let mut corrected = guard.clone();
            hands.set(-by);
            assert_eq!(kind(&mut corrected, &hands), None);
            hands.set(by);
            guard.accept(hands.read());
            hands.pass(HOUR);
            assert_eq!(kind(&mut guard, &hands), None);
        }
    }

    #[test]
    fn a_restart_changes_nothing() {
        let hands = Hands::still();
        let mut guard = Guard::begin(None, "a", hands.read());
        assert_eq!(kind(&mut guard, &hands), None);
        let seen = Seen::of(&hands.read(), "a");
        hands.pass(HOUR);
        hands.set(26 * 3600);
        let mut guard = Guard::begin(Some(&seen), "a", hands.read());
        assert!(matches!(kind(&mut guard, &hands), Some(DoubtKind::Set(Set::Forward(_)))));
        hands.set(-26 * 3600);
        assert_eq!(kind(&mut guard, &hands), None);
    }

    #[test]
    fn a_clock_without_a_battery_is_doubted_until_the_network_has_set_it_and_it_has_held() {
        let hands = Hands::still();
        let seen = Seen::of(&hands.read(), "a");
        let now = hands.read().wall;
        hands.boot(UNIX_EPOCH + HOUR);
        let mut guard = Guard::begin(Some(&seen), "b", hands.read());
        assert_eq!(kind(&mut guard, &hands), Some(DoubtKind::BeforeSeen));
        hands.pass(HOUR);
        assert_eq!(kind(&mut guard, &hands), Some(DoubtKind::BeforeSeen));
        hands.set_to(now + 2 * HOUR);
        assert_eq!(kind(&mut guard, &hands), Some(DoubtKind::JustBooted { left: SETTLE }));
        hands.pass(SETTLE);
        assert_eq!(kind(&mut guard, &hands), None);
    }

    #[test]
    fn a_clock_that_is_ahead_at_boot_is_corrected_before_it_is_believed() {
        let hands = Hands::still();
        let seen = Seen::of(&hands.read(), "a");
        hands.boot(hands.read().wall + 400 * DAY);
        let mut guard = Guard::begin(Some(&seen), "b", hands.read());
        let doubt = guard.doubt(hands.read()).unwrap();
        assert!(!doubt.concerns_somebody() && doubt.to_string().contains("has to hold for 600 s"), "{doubt}");
        hands.pass(Duration::from_secs(30));
        hands.set(-399 * 86_400);
        assert_eq!(kind(&mut guard, &hands), Some(DoubtKind::JustBooted { left: SETTLE }));
        hands.pass(SETTLE);
        assert_eq!(kind(&mut guard, &hands), None);
    }

    #[test]
    fn a_first_start_in_1970_is_corrected_without_anybody() {
        let hands = Hands::still();
        let now = hands.read().wall;
        hands.boot(UNIX_EPOCH + HOUR);
        let mut guard = Guard::begin(None, "a", hands.read());
        assert_eq!(kind(&mut guard, &hands), Some(DoubtKind::Impossible));
        hands.set_to(now);
        assert_eq!(kind(&mut guard, &hands), None);
    }
}
