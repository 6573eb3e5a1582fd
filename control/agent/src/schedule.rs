//! When to renew: pure arithmetic over given times.
//!
//! Owns the rule that keeps a fleet from acting in step: renewal at half life with a jitter that belongs to the SVID. It
//! must never read a clock.

use std::time::{Duration, SystemTime};

use svidecar_authority::x509::sha256;

/// Renewals are spread over this share of the half life, to both sides.
const RENEWAL_SPREAD: f64 = 0.1;

/// Even an SVID with a lifetime of a second is not renewed more often than this.
const MIN_RENEWAL_WAIT: Duration = Duration::from_millis(500);

/// When to renew a document that was obtained at `obtained` and ends at `not_after`: at half its life as
/// we had it (issuers backdate the beginning), moved by up to a tenth of that. The move is a function of
/// `seed` alone. Drawing it again at each look would make the earliest draw win, which bunches renewals.
#[must_use]
pub fn renew_at(obtained: SystemTime, not_after: SystemTime, seed: &[u8]) -> SystemTime {
    let lifetime = not_after.duration_since(obtained).unwrap_or_default();
    let wait = (lifetime / 2).mul_f64(1.0 + RENEWAL_SPREAD * (2.0 * fraction(seed) - 1.0));
    obtained + wait.max(MIN_RENEWAL_WAIT)
}

/// A number from 0 to 1 that belongs to `seed`.
fn fraction(seed: &[u8]) -> f64 {
    let head = sha256(seed).iter().take(4).fold(0_u32, |value, byte| (value << 8) | u32::from(*byte));
    f64::from(head) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn renewal_is_around_half_life_and_always_the_same() {
        let start = SystemTime::UNIX_EPOCH + HOUR;
        for seed in 0..200_u32 {
            let seed = seed.to_be_bytes();
            let at = renew_at(start, start + HOUR, &seed);
            assert_eq!(at, renew_at(start, start + HOUR, &seed));
            let share = at.duration_since(start).unwrap().as_secs_f64() / HOUR.as_secs_f64();
            assert!((0.449..=0.551).contains(&share), "{share}");
        }
    }

    #[test]
    fn renewals_of_a_fleet_are_spread() {
        let start = SystemTime::UNIX_EPOCH;
        let waits: Vec<_> = (0..200_u32)
            .map(|seed| renew_at(start, start + HOUR, &seed.to_be_bytes()).duration_since(start).unwrap())
            .collect();
        let (first, last) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*last - *first > Duration::from_secs(300), "{first:?} to {last:?}");
    }

    #[test]
    fn an_expired_or_tiny_lifetime_still_waits() {
        let now = SystemTime::UNIX_EPOCH + HOUR;
        assert_eq!(renew_at(now, now - HOUR, b"x"), now + MIN_RENEWAL_WAIT);
    }
}
