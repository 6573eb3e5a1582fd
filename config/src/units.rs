//! Durations and sizes as people write them.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{
    SignedDuration,
    fmt::friendly::{Designator, Spacing, SpanPrinter},
};
use svidecar_document::{text::InvalidValue, text_value};

/// Longest accepted duration: ten years. Deadlines further away overflow clocks and mean a mistake.
const MAX_DURATION: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// A span of time, written `1h30m`, `10s` or `500ms`; at most ten years, never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whether nothing is left of it.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl FromStr for HumanDuration {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |why: &str| InvalidValue(format!("`{text}` is not a duration: {why}"));
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong(&format!("the unit is missing; write `{text}s`, `{text}m` or `{text}h`")));
        }
        let parsed: SignedDuration = text.parse().map_err(|_| {
            wrong("expected numbers with the units `h`, `m`, `s`, `ms`, such as `1h30m` or `500ms`")
        })?;
        let duration = Duration::try_from(parsed).map_err(|_| wrong("it is negative"))?;
        if duration > MAX_DURATION {
            return Err(wrong("it is longer than ten years"));
        }
        Ok(Self(duration))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest jiff duration is far beyond MAX_DURATION; one made in code by `From` saturates.
        let signed = SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX);
        let printer = SpanPrinter::new().designator(Designator::Compact).spacing(Spacing::None);
        f.write_str(&printer.duration_to_string(&signed))
    }
}

text_value!(HumanDuration, "Duration", "duration", ["1h30m", "10s", "500ms"]);

/// A number of bytes, written `65536`, `64KiB`, `16MiB` or `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Units from the largest; the decimal ones are read, never printed.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// A size of `bytes` bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as an index; saturates on machines with small pointers.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
        let unit = unit.trim_start();
        let factor = match unit {
            "" => Some(1),
            _ => UNITS.iter().find_map(|&(name, factor)| name.eq_ignore_ascii_case(unit).then_some(factor)),
        };
        number
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| {
                InvalidValue(format!(
                    "`{text}` is not a size; expected a whole number of bytes, or one with a unit, such as `64KiB` or `16MiB`"
                ))
            })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().take(3).find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

text_value!(ByteSize, "ByteSize", "byte-size", ["64KiB", "16MiB", "65536"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed_the_same() {
        for text in ["1h", "1h30m", "10s", "500ms", "0s", "24h", "168h", "1m30s"] {
            assert_eq!(text.parse::<HumanDuration>().unwrap().to_string(), text);
        }
        let seconds = |text: &str| text.parse::<HumanDuration>().unwrap().get().as_secs_f64();
        assert_eq!(seconds("1.5h"), 5400.0);
        assert_eq!(seconds("0"), 0.0);
        assert_eq!(seconds("90m"), 5400.0);
    }

    #[test]
    fn wrong_durations_say_what_to_write() {
        for (text, part) in [
            ("30", "write `30s`"),
            ("", "such as `1h30m`"),
            ("soon", "such as `1h30m`"),
            ("-5s", "negative"),
            ("99999999h", "ten years"),
            ("1h30", "such as"),
        ] {
            let error = text.parse::<HumanDuration>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("64KiB", 65536),
            ("64 kib", 65536),
            ("16MiB", 16 << 20),
            ("2GiB", 2 << 30),
            ("1GB", 1_000_000_000),
            ("7B", 7),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "64 K B", "18446744073709551615GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_print_in_the_largest_unit_that_is_exact() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1024, "1KiB"), (64 << 20, "64MiB"), (3 << 30, "3GiB")]
        {
            assert_eq!(ByteSize::from_bytes(bytes).to_string(), text);
        }
    }
}
