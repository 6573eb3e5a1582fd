//! When to speak up about an SVID that comes near its end and for which no newer one has come. Pure.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::identity::Svid;

/// An agent renews at half life. When only this share of the life is left, something is wrong.
const WARN_AT: f64 = 0.35;
/// Now somebody has to act.
const ALARM_AT: f64 = 0.15;

/// How late a renewal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// It should have come.
    Late,
    /// Little of the life is left.
    Soon,
    /// The SVID has expired.
    Expired,
}

/// When to speak up next about this SVID, and how loud.
pub(crate) fn next_alarm(svid: &Svid, now: UnixTime) -> Option<(Duration, Overdue)> {
    // From when we got it: certificates begin a little in the past, which matters when they are short.
    let life = svid.leaf.not_after.as_secs().saturating_sub(svid.obtained.as_secs());
    let left = svid.seconds_left(now);
    let until = |share: f64| {
        let at = Duration::from_secs(life).mul_f64(share).as_secs();
        left.checked_sub(at).filter(|wait| *wait > 0).map(Duration::from_secs)
    };
    if let Some(wait) = until(WARN_AT) {
        return Some((wait, Overdue::Late));
    }
    if let Some(wait) = until(ALARM_AT) {
        return Some((wait, Overdue::Soon));
    }
    // The last second of validity counts (RFC 5280 §4.1.2.5).
    svid.is_valid(now).then(|| (Duration::from_secs(left + 1), Overdue::Expired))
}

/// How late the renewal of this SVID is by now. To be asked when the clock jumped over the moments of [`next_alarm`].
pub(crate) fn overdue(svid: &Svid, now: UnixTime) -> Option<Overdue> {
    let life = svid.leaf.not_after.as_secs().saturating_sub(svid.obtained.as_secs());
    let is_left = |share: f64| svid.seconds_left(now) > Duration::from_secs(life).mul_f64(share).as_secs();
    match () {
        () if !svid.is_valid(now) => Some(Overdue::Expired),
        () if !is_left(ALARM_AT) => Some(Overdue::Soon),
        () if !is_left(WARN_AT) => Some(Overdue::Late),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use svidecar_authority::time::plus;

    use svidecar_process::clock;

    use super::*;
    use crate::{
        material,
        testing::{Issuer, LIFE, message},
    };

    #[test]
    fn a_jump_over_an_alarm_tells_it() {
        let start = clock::unix();
        let message = message(vec![Issuer::new("demo.org").svid("/a", "")]);
        let svid = material::read(message, start).unwrap().svids.remove(0);
        let at = |share: f64| overdue(&svid, plus(start, LIFE.mul_f64(share)));
        assert_eq!(
            [at(0.5), at(0.7), at(0.9), at(2.0)],
            [None, Some(Overdue::Late), Some(Overdue::Soon), Some(Overdue::Expired)]
        );
    }

    #[test]
    fn it_is_told_three_times_and_then_no_more() {
        let start = clock::unix();
        let message = message(vec![Issuer::new("demo.org").svid("/a", "")]);
        let svid = material::read(message, start).unwrap().svids.remove(0);
        let end = svid.leaf.not_after;
        let life = Duration::from_secs(end.as_secs() - start.as_secs());
        let mut now = start;
        let mut told = Vec::new();
        while let Some((wait, overdue)) = next_alarm(&svid, now) {
            now = plus(now, wait);
            told.push((overdue, end.as_secs() as i64 - now.as_secs() as i64));
        }
        let share = |share: f64| life.mul_f64(share).as_secs() as i64;
        let expected =
            [(Overdue::Late, share(WARN_AT)), (Overdue::Soon, share(ALARM_AT)), (Overdue::Expired, -1)];
        assert_eq!(told, expected);
    }
}
