//! What happens when: drawn from a seed, and the same for the same seed.
//!
//! Owns the kinds of faults and how often each is drawn. It must never look at a clock or at the fleet.

use std::{collections::HashMap, fmt, time::Duration};

use rand::{
    RngExt as _, SeedableRng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, WeightError},
};

use crate::part::{AGENTS, ORDERS, Part, WORKLOADS};

/// How long after a fault its part is left alone, so that each accident is seen to heal.
const RECOVERY: Duration = Duration::from_secs(4);

/// Between one fault and the next, in milliseconds.
const GAP: std::ops::Range<u64> = 300..1500;

/// Steps of a clock, in seconds: hours and days, ahead and back.
const STEPS: [i64; 4] = [-7200, 7200, 26 * 3600, -26 * 3600];

/// What happens to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; it is started again at the end.
    Kill,
    /// SIGTERM; it is started again at once.
    Restart,
    /// SIGSTOP; SIGCONT at the end.
    Freeze,
    /// Its wall clock is so many seconds off.
    Clock(i64),
    /// Its disk is full.
    FullDisk,
    /// Its connections to the server are reset, and so is each new one.
    Refuse,
    /// Its connections to the server carry nothing more, without a word.
    Silence,
    /// Its entry is deleted; it is made again at the end.
    DeleteEntry,
    /// Its policy allows more until the end.
    EditPolicy,
    /// The server goes back to the backup that was made at the start of the fault.
    Restore,
}

/// One accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, after the load has begun.
    pub at: Duration,
    /// How long.
    pub lasts: Duration,
    /// To whom.
    pub part: Part,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Kill => "is killed".to_owned(),
            Fault::Restart => "is restarted".to_owned(),
            Fault::Freeze => "is frozen".to_owned(),
            Fault::Clock(seconds) => format!("has a clock that is {seconds:+} s off"),
            Fault::FullDisk => "has a full disk".to_owned(),
            Fault::Refuse => "is refused by the network".to_owned(),
            Fault::Silence => "is cut off".to_owned(),
            Fault::DeleteEntry => "has no entry".to_owned(),
            Fault::EditPolicy => "has another policy".to_owned(),
            Fault::Restore => "goes back to a backup".to_owned(),
        };
        write!(
            f,
            "{:8.3} s  {} {what} for {:.3} s",
            self.at.as_secs_f64(),
            self.part,
            self.lasts.as_secs_f64()
        )
    }
}

/// Which kinds of faults can be made here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Abilities {
    /// Clocks can be set for one process.
    pub clocks: bool,
}

/// Draws the accidents of `span`, none of which lasts longer than that.
///
/// # Errors
/// Never: the weights are constant and above zero.
pub fn draw(seed: u64, span: Duration, abilities: Abilities) -> Result<Vec<Event>, WeightError> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut events = Vec::new();
    let mut busy: HashMap<Part, Duration> = HashMap::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(random.random_range(GAP));
        let (kind, _) = *KINDS.choose_weighted(&mut random, |(_, weight)| *weight)?;
        let Some((part, fault)) = kind.of(&mut random) else { continue };
        let lasts = Duration::from_millis(random.random_range(kind.lasts()));
        if at >= span {
            return Ok(events);
        }
        let is_busy = busy.get(&part).is_some_and(|until| at < *until);
        if is_busy || at + lasts > span || (matches!(fault, Fault::Clock(_)) && !abilities.clocks) {
            continue;
        }
        busy.insert(part, at + lasts + RECOVERY);
        events.push(Event { at, lasts, part, fault });
    }
}

/// A fault before it is known whom it strikes.
#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Restart,
    Freeze,
    Clock,
    FullDisk,
    Refuse,
    Silence,
    DeleteEntry,
    EditPolicy,
    Restore,
}

/// How often each is drawn.
const KINDS: [(Kind, u32); 10] = [
    (Kind::Kill, 8),
    (Kind::Restart, 4),
    (Kind::Freeze, 5),
    (Kind::Clock, 4),
    (Kind::FullDisk, 3),
    (Kind::Refuse, 3),
    (Kind::Silence, 3),
    (Kind::DeleteEntry, 5),
    (Kind::EditPolicy, 3),
    (Kind::Restore, 1),
];

impl Kind {
    /// Whom it strikes.
    fn of(self, random: &mut StdRng) -> Option<(Part, Fault)> {
        let agent = Part::Agent(random.random_range(0..AGENTS));
        let proxy = Part::Proxy(random.random_range(0..4));
        let app = Part::App(random.random_range(0..2));
        let workload = Part::Workload(random.random_range(0..WORKLOADS));
        let any = *[Part::Server, agent, agent, proxy, proxy, app, workload].choose(random)?;
        let ours = *[Part::Server, agent, agent, proxy].choose(random)?;
        let storing = *[Part::Server, agent].choose(random)?;
        let step = *STEPS.choose(random)?;
        Some(match self {
            Self::Kill => (any, Fault::Kill),
            Self::Restart => (any, Fault::Restart),
            Self::Freeze => (any, Fault::Freeze),
            Self::Clock => (ours, Fault::Clock(step)),
            Self::FullDisk => (storing, Fault::FullDisk),
            Self::Refuse => (agent, Fault::Refuse),
            Self::Silence => (agent, Fault::Silence),
            Self::DeleteEntry => (workload, Fault::DeleteEntry),
            Self::EditPolicy => (ORDERS, Fault::EditPolicy),
            Self::Restore => (Part::Server, Fault::Restore),
        })
    }

    /// In milliseconds.
    const fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::Restart => 1..2,
            Self::Kill => 50..3000,
            Self::Freeze | Self::Clock | Self::FullDisk | Self::Refuse | Self::Silence | Self::Restore => {
                500..5000
            }
            Self::DeleteEntry | Self::EditPolicy => 2000..8000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const ALL: Abilities = Abilities { clocks: true };

    #[test]
    fn the_same_seed_is_the_same_schedule() {
        assert_eq!(draw(7, HOUR, ALL).unwrap(), draw(7, HOUR, ALL).unwrap());
        assert_ne!(draw(7, HOUR, ALL).unwrap(), draw(8, HOUR, ALL).unwrap());
    }

    #[test]
    fn no_part_has_two_accidents_at_once_and_all_end_in_time() {
        let mut busy: HashMap<Part, Duration> = HashMap::new();
        for event in draw(1, HOUR, ALL).unwrap() {
            let until = busy.insert(event.part, event.at + event.lasts + RECOVERY);
            assert!(until.is_none_or(|until| until <= event.at), "{event}");
            assert!(event.at + event.lasts <= HOUR);
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn_and_none_that_cannot_be_made() {
        let kinds = |abilities| {
            let events = draw(1, HOUR, abilities).unwrap();
            events
                .iter()
                .map(|event| std::mem::discriminant(&event.fault))
                .collect::<std::collections::HashSet<_>>()
        };
        assert_eq!(kinds(ALL).len(), KINDS.len());
        assert!(!kinds(Abilities::default()).contains(&std::mem::discriminant(&Fault::Clock(0))));
    }
}
