//! What was the matter when, for judging what was seen.
//!
//! Owns the times at which a part was not itself, and at which a policy said what. Pure: times are arguments.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::part::Part;

/// How long after an edit either policy may decide: the file is read again at most a second after the last change of it, and
/// what is in flight ends as it began.
const SETTLING: Duration = Duration::from_secs(3);

/// Times at which something was the matter.
#[derive(Debug, Default)]
pub struct History {
    troubles: HashMap<Part, Vec<Trouble>>,
    edits: Vec<(Instant, bool)>,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    from: Instant,
    until: Option<Instant>,
}

/// What a policy said over a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// That a request may pass, all the time.
    Allow,
    /// That it may not, all the time.
    Deny,
    /// The one or the other.
    Either,
}

impl History {
    /// From now on the part is not itself.
    pub fn begins(&mut self, part: Part, at: Instant) {
        self.troubles.entry(part).or_default().push(Trouble { from: at, until: None });
    }

    /// From now on it is again.
    pub fn ends(&mut self, part: Part, at: Instant) {
        let troubles = self.troubles.entry(part).or_default();
        if let Some(trouble) = troubles.iter_mut().rev().find(|trouble| trouble.until.is_none()) {
            trouble.until = Some(at);
        }
    }

    /// Whether it is not itself now.
    #[must_use]
    pub fn is_in_trouble(&self, part: Part) -> bool {
        self.troubles
            .get(&part)
            .is_some_and(|troubles| troubles.iter().any(|trouble| trouble.until.is_none()))
    }

    /// Whether it was itself all the time.
    #[must_use]
    pub fn was_well(&self, part: Part, from: Instant, until: Instant) -> bool {
        let Some(troubles) = self.troubles.get(&part) else { return true };
        troubles.iter().all(|trouble| trouble.from > until || trouble.until.is_some_and(|end| end < from))
    }

    /// The policy allows from now on what it did not, or the other way round.
    pub fn edited(&mut self, at: Instant, allows: bool) {
        self.edits.push((at, allows));
    }

    /// What the policy that is edited said all the time. It denied at first.
    #[must_use]
    pub fn decision(&self, from: Instant, until: Instant) -> Decision {
        let mut said = false;
        for (at, allows) in &self.edits {
            if *at <= until && *at + SETTLING >= from {
                return Decision::Either;
            }
            if *at <= from {
                said = *allows;
            }
        }
        if said { Decision::Allow } else { Decision::Deny }
    }
}

#[cfg(test)]
mod tests {
    use svidecar_process::clock;

    use super::*;
    use crate::part::{FRONT, ORDERS};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_part_is_itself_but_for_its_troubles() {
        let start = clock::monotonic();
        let mut history = History::default();
        history.begins(FRONT, start + 2 * SECOND);
        assert!(history.is_in_trouble(FRONT) && !history.is_in_trouble(ORDERS));
        history.ends(FRONT, start + 4 * SECOND);
        assert!(!history.is_in_trouble(FRONT));
        let well = |from, until| history.was_well(FRONT, start + from * SECOND, start + until * SECOND);
        assert!(well(0, 1) && well(5, 6));
        assert!(!well(1, 2) && !well(1, 9) && !well(3, 3) && !well(4, 5));
        assert!(history.was_well(ORDERS, start, start + 9 * SECOND));
    }

    #[test]
    fn an_edit_settles_and_then_counts() {
        let start = clock::monotonic();
        let mut history = History::default();
        history.edited(start + 10 * SECOND, true);
        history.edited(start + 20 * SECOND, false);
        let said = |from, until| history.decision(start + from * SECOND, start + until * SECOND);
        assert_eq!(said(0, 9), Decision::Deny);
        assert_eq!(said(9, 10), Decision::Either);
        assert_eq!(said(12, 12), Decision::Either);
        assert_eq!(said(14, 19), Decision::Allow);
        assert_eq!(said(14, 21), Decision::Either);
        assert_eq!(said(24, 25), Decision::Deny);
    }
}
