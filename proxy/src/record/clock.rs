//! The time of day in the form in which lines tell it.
//!
//! Date and seconds are formatted once for all lines of a second, and the system is asked for the time of day once a
//! second: what is measured in between is measured by the clock that never jumps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use svidecar_process::clock;

/// A time of day as RFC 3339 writes it: in UTC, with milliseconds.
pub(super) type Stamp = [u8; 24];

/// How long the time of day is taken to go as the other clock goes. A step of it shows after at most this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Turns moments into times of day.
pub(super) struct WallClock {
    asked_at: Instant,
    /// Since 1970.
    answer: Duration,
    /// Date and seconds of the last line, and the second that they are.
    text: Stamp,
    second: u64,
}

impl WallClock {
    pub(super) fn new() -> Self {
        Self::at(clock::monotonic(), clock::wall())
    }

    fn at(asked_at: Instant, answer: SystemTime) -> Self {
        let answer = answer.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { asked_at, answer, text: *b"1970-01-01T00:00:00.000Z", second: 0 }
    }

    /// The time of day of `moment`. `now` is this moment or a little earlier.
    pub(super) fn stamp(&mut self, moment: Instant, now: Instant) -> &Stamp {
        if now.saturating_duration_since(self.asked_at) >= ASK_AGAIN {
            self.asked_at = clock::monotonic();
            self.answer = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        }
        let since_1970 = match moment.checked_duration_since(self.asked_at) {
            Some(after) => self.answer.saturating_add(after),
            None => self.answer.saturating_sub(self.asked_at.duration_since(moment)),
        };
        if since_1970.as_secs() != self.second {
            self.second = since_1970.as_secs();
            self.text = whole_second(self.second);
        }
        let [.., hundreds, tens, ones, _] = &mut self.text;
        let millis = since_1970.subsec_millis();
        for (digit, value) in [(hundreds, millis / 100), (tens, millis / 10 % 10), (ones, millis % 10)] {
            *digit = b'0' + value.to_le_bytes()[0];
        }
        &self.text
    }
}

fn whole_second(second: u64) -> Stamp {
    let time = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
    let text = format!("{:.3}", time.unwrap_or(Timestamp::UNIX_EPOCH));
    // Shorter or longer only beyond the year 9999.
    text.as_bytes().try_into().unwrap_or(*b"9999-12-31T23:59:59.999Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_and_after_the_question_have_their_time() {
        let asked_at = clock::monotonic() + Duration::from_secs(3600);
        let mut clock = WallClock::at(asked_at, UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        for (offset, expected) in [
            (0, "2023-11-14T22:13:20.123Z"),
            (7, "2023-11-14T22:13:20.130Z"),
            (877, "2023-11-14T22:13:21.000Z"),
            (-124, "2023-11-14T22:13:19.999Z"),
            (-123, "2023-11-14T22:13:20.000Z"),
        ] {
            let by = Duration::from_millis(i64::unsigned_abs(offset));
            let moment = if offset < 0 { asked_at - by } else { asked_at + by };
            assert_eq!(clock.stamp(moment, asked_at), expected.as_bytes(), "{offset}");
        }
    }

    #[test]
    fn the_time_of_day_is_asked_for_again() {
        let now = clock::monotonic();
        let mut clock = WallClock::at(now, UNIX_EPOCH);
        assert!(clock.stamp(now, now).starts_with(b"1970"));
        let later = now + ASK_AGAIN;
        assert!(!clock.stamp(later, later).starts_with(b"1970"));
    }
}
