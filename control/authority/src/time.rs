//! Arithmetic and wording of points in time. Everything counts in whole seconds since the Unix epoch, as
//! certificates and tokens do; nothing here reads a clock.

use std::time::Duration;

use rustls_pki_types::UnixTime;

/// The end of the year 9999, the last second that a certificate can name (RFC 5280 §4.1.2.5).
const LAST_SECOND: u64 = 253_402_300_799;

/// A point in time from seconds since the Unix epoch.
#[must_use]
pub const fn from_secs(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// `time + duration`, at most the last second that a certificate can name.
#[must_use]
pub fn plus(time: UnixTime, duration: Duration) -> UnixTime {
    from_secs(time.as_secs().saturating_add(duration.as_secs()).min(LAST_SECOND))
}

/// `time - duration`, at least the Unix epoch.
#[must_use]
pub fn minus(time: UnixTime, duration: Duration) -> UnixTime {
    from_secs(time.as_secs().saturating_sub(duration.as_secs()))
}

/// How long it is from `start` to `end`; zero when `end` is not later.
#[must_use]
pub fn between(start: UnixTime, end: UnixTime) -> Duration {
    Duration::from_secs(end.as_secs().saturating_sub(start.as_secs()))
}

/// RFC 3339 in UTC, such as `2026-11-22T22:20:35Z`. The last days of the year 9999 and all later ones are
/// given in seconds.
#[must_use]
pub fn rfc3339(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("{} seconds after 1970", time.as_secs()), |timestamp| timestamp.to_string())
}

/// A duration for people: the two largest units, such as `2d 3h`, `5m 10s`, `0s`.
#[must_use]
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts =
        [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let text = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect::<Vec<_>>()
        .join(" ");
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (310, "5m 10s"),
            (3600, "1h"),
            (3605, "1h"),
            (183_700, "2d 3h"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(plus(from_secs(u64::MAX), Duration::from_secs(1)).as_secs(), LAST_SECOND);
        assert_eq!(minus(from_secs(3), Duration::from_secs(10)).as_secs(), 0);
        assert_eq!(rfc3339(from_secs(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(from_secs(u64::MAX)), format!("{} seconds after 1970", u64::MAX));
    }
}
