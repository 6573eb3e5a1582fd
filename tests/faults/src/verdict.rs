//! What must hold, whatever happens: the judgement of what was seen. Pure.

use std::time::{Duration, Instant};

use crate::{
    fleet::{Registered, TTL},
    history::{Decision, History},
    load::{Outcome, Rule, Sample},
    part::Part,
    workload::News,
};

/// How long after a change of an entry, with everybody well, its workload must have learned of it.
pub const LEARNS_WITHIN: Duration = Duration::from_secs(10);

/// How long sessions of TCP last at least: until the SVID that one of both sides began with ends, which is renewed at half its
/// life. Connections from before that carry new sessions, so that one may be short; two in a row are a fault.
const SESSION: Duration = Duration::from_secs(TTL.as_secs() / 2 - 5);

/// What a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    AsExpected,
    /// It failed, but one of those whom it needs was not itself.
    Excused,
    /// What must not be.
    Wrong(&'static str),
}

/// Judges one request.
#[must_use]
pub fn of_request(sample: &Sample, history: &History) -> Verdict {
    let (from, until) = (sample.from, sample.until);
    let decision = match sample.flow.rule {
        Rule::Allowed => Decision::Allow,
        Rule::Denied => Decision::Deny,
        Rule::AsEdited => history.decision(from, until),
    };
    let wrong = match (decision, &sample.outcome) {
        (Decision::Deny, Outcome::Passed) => return Verdict::Wrong("passed although policy denies it"),
        (Decision::Allow, Outcome::Refused) => "was refused although policy allows it",
        (_, Outcome::Failed(_)) => "failed",
        // SVIDs may be old when their renewal had to wait.
        (_, Outcome::Ended(Some(after))) if *after < SESSION && renewed_in_time(sample, history) => {
            "ended again"
        }
        _ => return Verdict::AsExpected,
    };
    let well = sample.flow.parts.iter().all(|part| history.was_well(*part, from, until));
    if well { Verdict::Wrong(wrong) } else { Verdict::Excused }
}

/// Whether nothing kept the SVIDs of both sides from being renewed.
fn renewed_in_time(sample: &Sample, history: &History) -> bool {
    let Some(from) = sample.from.checked_sub(TTL) else { return false };
    let [caller, callee, _] = sample.flow.parts;
    [Part::Server, Part::Agent(caller.agent()), Part::Agent(callee.agent()), caller, callee]
        .iter()
        .all(|part| history.was_well(*part, from, sample.until))
}

/// What a workload has, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// Its last news.
    pub news: Option<News>,
    /// The wall clock, in seconds since 1970.
    pub wall: i64,
    /// Now.
    pub now: Instant,
}

/// Judges what a workload has.
///
/// # Errors
/// What must not be.
pub fn of_workload(
    part: Part,
    registered: &Registered,
    held: Holding,
    history: &History,
) -> Result<(), &'static str> {
    let settled = [Part::Server, Part::Agent(part.agent()), part].iter().all(|part| {
        held.now.checked_sub(LEARNS_WITHIN).is_some_and(|from| history.was_well(*part, from, held.now))
    });
    let age = held.now.saturating_duration_since(registered.since);
    let settled = settled && age > LEARNS_WITHIN;
    let well = history.was_well(part, held.now, held.now);
    match (registered.id.is_some(), held.news) {
        (true, Some(News::Svid(end))) if end <= held.wall && well => Err("has an SVID that has ended"),
        (true, None | Some(News::Denied)) if settled => Err("has an entry and no SVID"),
        (false, Some(News::Svid(_))) if settled => Err("has no entry and still its SVID"),
        (false, Some(News::Svid(end))) => {
            let left = u64::try_from(end.saturating_sub(held.wall)).unwrap_or_default();
            let outlives = age + Duration::from_secs(left);
            if outlives > TTL + LEARNS_WITHIN { Err("has an SVID that outlives its entry") } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use svidecar_process::clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PART: Part = Part::Workload(1);

    fn judge(
        entry: Option<&str>,
        age: u32,
        news: Option<News>,
        history: &History,
        now: Instant,
    ) -> Option<&'static str> {
        let registered = Registered { id: entry.map(str::to_owned), since: now - age * SECOND };
        of_workload(PART, &registered, Holding { news, wall: 1000, now }, history).err()
    }

    #[test]
    fn a_workload_has_an_svid_exactly_while_it_has_an_entry() {
        let now = clock::monotonic() + 100 * SECOND;
        let well = History::default();
        let valid = Some(News::Svid(1030));
        assert_eq!(judge(Some("e"), 20, valid, &well, now), None);
        assert_eq!(judge(Some("e"), 5, None, &well, now), None);
        assert_eq!(judge(Some("e"), 20, Some(News::Denied), &well, now), Some("has an entry and no SVID"));
        assert_eq!(
            judge(Some("e"), 20, Some(News::Svid(1000)), &well, now),
            Some("has an SVID that has ended")
        );
        assert_eq!(judge(None, 5, valid, &well, now), None);
        assert_eq!(judge(None, 20, valid, &well, now), Some("has no entry and still its SVID"));
        assert_eq!(judge(None, 20, Some(News::Denied), &well, now), None);
    }

    #[test]
    fn who_cannot_learn_is_excused_but_nothing_outlives_its_entry() {
        let now = clock::monotonic() + 100 * SECOND;
        let mut cut = History::default();
        cut.begins(Part::Agent(PART.agent()), now - 30 * SECOND);
        assert_eq!(judge(Some("e"), 20, None, &cut, now), None);
        assert_eq!(judge(None, 20, Some(News::Svid(1030)), &cut, now), None);
        assert_eq!(
            judge(None, 45, Some(News::Svid(1030)), &cut, now),
            Some("has an SVID that outlives its entry")
        );
    }
}
