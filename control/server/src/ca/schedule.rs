//! When an authority is replaced. Pure: lives and a moment in, the next step out.
//!
//! An authority that is not valid yet, because it was made while the clock was ahead, counts as little as one that has ended.

use std::time::Duration;

use svidecar_authority::{
    UnixTime,
    time::{between, from_secs, human, minus, plus},
    x509::BACKDATE,
};
use svidecar_config::server::ServerSettings;

use super::CaError;

/// The next authority is prepared at half of the active one's life, at most this long before its end.
const PREPARE_AT_MOST: Duration = Duration::from_secs(30 * 86_400);
/// It is activated in the last sixth, at most this long before the end. SVIDs live no longer than that, so that each
/// gets its full time.
const ACTIVATE_AT_MOST: Duration = Duration::from_secs(7 * 86_400);
/// How long a late successor is published before it signs, unless the active one has expired.
const SETTLE_AT_MOST: Duration = Duration::from_secs(60);
/// How long an expired authority stays in the bundle: as long as it lived, at most this long, for those whose clock is
/// behind.
const KEEP_EXPIRED_AT_MOST: Duration = Duration::from_secs(86_400);
/// The shortest CA lifetime.
const SHORTEST_CA_TTL: Duration = Duration::from_secs(60);

/// A time, and whether it is to be believed: what cannot be undone waits until it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time.
    pub now: UnixTime,
    /// Whether nobody doubts it.
    pub is_certain: bool,
}

/// A time that nobody doubts.
impl From<UnixTime> for Moment {
    fn from(now: UnixTime) -> Self {
        Self { now, is_certain: true }
    }
}

/// From when to when an authority may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) issued_at: UnixTime,
    pub(super) not_after: UnixTime,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    None,
    /// Make an authority and activate it at once: there is none that could sign.
    Start,
    /// Make the next one and publish it.
    Prepare,
    /// Let the prepared one sign.
    Activate,
    /// Let the one at this place among those that were set aside sign again.
    Resume(usize),
}

impl Life {
    fn lifetime(self) -> Duration {
        between(self.issued_at, self.not_after)
    }

    pub(super) fn is_over(self, now: UnixTime) -> bool {
        self.not_after <= now
    }

    /// Its certificate begins a little before it was made.
    fn is_valid(self, now: UnixTime) -> bool {
        minus(self.issued_at, BACKDATE) <= now && !self.is_over(now)
    }

    fn prepares(self, now: UnixTime) -> bool {
        between(now, self.not_after) <= (self.lifetime() / 2).min(PREPARE_AT_MOST)
    }

    fn activates_next(self, now: UnixTime) -> bool {
        between(now, self.not_after) <= longest_svid(self.lifetime())
    }

    fn has_settled(self, now: UnixTime) -> bool {
        plus(self.issued_at, (self.lifetime() / 12).min(SETTLE_AT_MOST)) <= now
    }
}

/// Authorities that ended before this moment leave the bundle; none do while the time is in doubt.
pub(super) fn forgotten_before(ca_ttl: Duration, moment: Moment) -> UnixTime {
    if moment.is_certain { minus(moment.now, ca_ttl.min(KEEP_EXPIRED_AT_MOST)) } else { from_secs(0) }
}

/// The step that is due for one kind of authority. Called again after each step, until there is none. `aside` are those
/// that neither sign nor are prepared, with their keys.
pub(super) fn next_step(
    active: Option<Life>,
    prepared: Option<Life>,
    aside: impl Iterator<Item = Life>,
    now: UnixTime,
) -> Step {
    let active = active.filter(|life| life.is_valid(now));
    let prepared = prepared.filter(|life| life.is_valid(now));
    match (active, prepared) {
        // All of them have been published; the one that lives longest is the one to go on with.
        (None, None) => aside
            .enumerate()
            .filter(|(_, life)| life.is_valid(now))
            .max_by_key(|(_, life)| life.not_after)
            .map_or(Step::Start, |(place, _)| Step::Resume(place)),
        (None, Some(_)) => Step::Activate,
        (Some(active), None) if active.prepares(now) => Step::Prepare,
        (Some(active), Some(prepared)) if active.activates_next(now) && prepared.has_settled(now) => {
            Step::Activate
        }
        _ => Step::None,
    }
}

/// The longest life that an SVID gets in full from a CA with that lifetime.
fn longest_svid(ca_ttl: Duration) -> Duration {
    (ca_ttl / 6).min(ACTIVATE_AT_MOST)
}

/// How often to look whether something is due: often enough for the shortest phase of the CA's life.
pub(super) fn tick_interval(ca_ttl: Duration) -> Duration {
    (ca_ttl / 60).clamp(Duration::from_secs(1), Duration::from_secs(10))
}

/// Checks what the CA must be able to honour: run by `validate` and at start. All problems at once.
#[must_use]
pub fn check_settings(settings: &ServerSettings) -> Vec<CaError> {
    let mut problems = Vec::new();
    let ca_ttl = settings.ca_ttl.get();
    if ca_ttl < SHORTEST_CA_TTL {
        problems.push(CaError::CaTtl { ca_ttl: settings.ca_ttl.to_string() });
    }
    let most = longest_svid(ca_ttl);
    let ttls = [
        ("default_x509_svid_ttl", settings.default_x509_svid_ttl),
        ("agent_ttl", settings.agent_svid_ttl()),
        ("default_jwt_svid_ttl", settings.default_jwt_svid_ttl),
    ];
    for (setting, ttl) in ttls {
        // Without its own value, `agent_ttl` is the first setting again.
        if ttl.get() <= most || (setting == "agent_ttl" && settings.agent_ttl.is_none()) {
            continue;
        }
        let needed = human(ttl.get().saturating_mul(6));
        let remedy = if ttl.get() > ACTIVATE_AT_MOST {
            format!("Set `{setting}` to at most {}", human(most))
        } else {
            format!("Set `{setting}` to at most {}, or `ca_ttl` to at least {needed}", human(most))
        };
        problems.push(CaError::Ttl {
            setting,
            ttl: ttl.to_string(),
            ca_ttl: settings.ca_ttl.to_string(),
            most: human(most),
            remedy,
        });
    }
    for (field, count) in [
        ("country", settings.ca_subject.country.len()),
        ("organization", settings.ca_subject.organization.len()),
    ] {
        if count > 1 {
            problems.push(CaError::Subject { field, count });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use svidecar_config::units::HumanDuration;
    use svidecar_id::TrustDomain;

    use super::*;

    const HOUR: u64 = 3600;

    fn life(from: u64, to: u64) -> Option<Life> {
        Some(Life { issued_at: from_secs(from * HOUR), not_after: from_secs(to * HOUR) })
    }

    fn at(hour: u64) -> UnixTime {
        from_secs(hour * HOUR)
    }

    fn next_step(active: Option<Life>, prepared: Option<Life>, now: UnixTime) -> Step {
        super::next_step(active, prepared, std::iter::empty(), now)
    }

    #[test]
    fn a_day_long_ca_is_prepared_at_half_and_replaced_in_the_last_sixth() {
        let active = life(0, 24);
        assert_eq!(next_step(None, None, at(0)), Step::Start);
        assert_eq!(next_step(active, None, at(11)), Step::None);
        assert_eq!(next_step(active, None, at(12)), Step::Prepare);
        let prepared = life(12, 36);
        assert_eq!(next_step(active, prepared, at(19)), Step::None);
        assert_eq!(next_step(active, prepared, at(20)), Step::Activate);
    }

    #[test]
    fn a_year_long_ca_is_prepared_a_month_and_replaced_a_week_before_its_end() {
        let year = 365 * 24;
        let active = life(0, year);
        assert_eq!(next_step(active, None, at(year - 30 * 24 - 1)), Step::None);
        assert_eq!(next_step(active, None, at(year - 30 * 24)), Step::Prepare);
        let prepared = life(year - 30 * 24, 2 * year);
        assert_eq!(next_step(active, prepared, at(year - 7 * 24 - 1)), Step::None);
        assert_eq!(next_step(active, prepared, at(year - 7 * 24)), Step::Activate);
    }

    #[test]
    fn a_late_successor_settles_before_it_signs() {
        let active = life(0, 24);
        assert_eq!(next_step(active, None, at(23)), Step::Prepare);
        assert_eq!(next_step(active, life(23, 47), at(23)), Step::None);
        let later = plus(at(23), SETTLE_AT_MOST);
        assert_eq!(next_step(active, life(23, 47), later), Step::Activate);
    }

    #[test]
    fn an_expired_authority_counts_as_none() {
        assert_eq!(next_step(life(0, 24), None, at(24)), Step::Start);
        assert_eq!(next_step(life(0, 24), life(12, 36), at(24)), Step::Activate);
        assert_eq!(next_step(life(0, 24), life(12, 36), at(36)), Step::Start);
    }

    #[test]
    fn an_authority_that_is_not_valid_yet_counts_as_none() {
        let (ahead, of_before, other) = (life(26, 50), life(0, 24), life(0, 12));
        assert_eq!(next_step(ahead, None, at(1)), Step::Start);
        assert_eq!(next_step(of_before, ahead, at(13)), Step::Prepare);
        let aside = || other.into_iter().chain(of_before);
        assert_eq!(super::next_step(ahead, None, aside(), at(1)), Step::Resume(1));
        assert_eq!(super::next_step(of_before, ahead, aside(), at(1)), Step::None);
        assert_eq!(super::next_step(ahead, None, aside(), at(27)), Step::None);
        assert_eq!(super::next_step(ahead, None, aside(), at(24)), Step::Start);
    }

    /// A CA that lives for minutes must not fill the bundle with those of a whole day.
    #[test]
    fn the_expired_stay_as_long_as_they_lived_and_at_most_a_day() {
        let hour = Duration::from_secs(HOUR);
        assert_eq!(forgotten_before(hour, at(50).into()), at(49));
        assert_eq!(forgotten_before(24 * hour, at(50).into()), at(26));
        assert_eq!(forgotten_before(365 * 24 * hour, at(50).into()), at(26));
        let doubtful = Moment { now: at(50), is_certain: false };
        assert_eq!(
            forgotten_before(hour, doubtful),
            at(0),
            "nothing is forgotten at a time that may be wrong"
        );
    }

    #[test]
    fn lifetimes_that_cannot_be_honoured_are_refused_with_what_would_work() {
        let mut settings = ServerSettings::new(TrustDomain::parse("demo.org").unwrap(), "/nowhere");
        assert!(check_settings(&settings).is_empty());
        settings.default_x509_svid_ttl = HumanDuration::from_secs(4 * HOUR);
        assert!(check_settings(&settings).is_empty());
        settings.default_x509_svid_ttl = HumanDuration::from_secs(8 * HOUR);
        settings.agent_ttl = Some(HumanDuration::from_secs(30 * 24 * HOUR));
        let problems = check_settings(&settings);
        let texts = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("at most 4h, or `ca_ttl` to at least 2d"), "{}", texts[0]);
        assert!(
            texts[1].contains("Set `agent_ttl` to at most 4h") && !texts[1].contains("at least"),
            "{}",
            texts[1]
        );
    }
}
