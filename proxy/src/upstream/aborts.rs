//! Callers that give up again and again what others' connections carry for them, and how long the next thing of theirs waits for
//! that.
//!
//! Costs whoever gives up nothing, and nobody else: the upstream, which works for nothing each time, sees no more of it than it
//! bears. Never ends anything.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use svidecar_process::{clock, source::Source};
use tokio::time::Instant;

/// The time that one costs: as many as 200 a second go on for ever.
const EACH: Duration = Duration::from_millis(5);

/// What may be taken in advance: 500.
const ADVANCE: Duration = Duration::from_millis(2500);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(1);

/// Callers that are remembered before one looks whom time has forgiven.
const MOST_REMEMBERED: usize = 64;

/// What callers of one worker gave up, by where they come from: until when it is paid for.
#[derive(Default)]
pub struct Aborts(RefCell<HashMap<Source, Instant>>);

impl Aborts {
    /// One more.
    pub fn note(&self, source: Source) {
        let now = clock::timer();
        let mut all = self.0.borrow_mut();
        if all.len() >= MOST_REMEMBERED {
            all.retain(|_, paid| *paid > now);
        }
        let paid = all.entry(source).or_insert(now);
        *paid = now.max(*paid) + EACH;
    }

    /// Whether nobody gave up anything of late.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// How long the next thing of this caller waits.
    #[must_use]
    pub fn pause(&self, source: Source) -> Option<Duration> {
        let all = self.0.borrow();
        let ahead = all.get(&source)?.checked_duration_since(clock::timer())?;
        ahead.checked_sub(ADVANCE).filter(|pause| !pause.is_zero()).map(|pause| pause.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_much_waits_and_nobody_else() {
        let aborts = Aborts::default();
        let (one, other) = (Source::User(1), Source::User(2));
        for _ in 0..500 {
            aborts.note(one);
        }
        assert_eq!((aborts.pause(one), aborts.pause(other)), (None, None));
        for _ in 0..100 {
            aborts.note(one);
        }
        assert_eq!((aborts.pause(one), aborts.pause(other)), (Some(Duration::from_millis(500)), None));
        for _ in 0..1000 {
            aborts.note(one);
        }
        assert_eq!(aborts.pause(one), Some(LONGEST));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(aborts.pause(one), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whom_time_has_forgiven_is_forgotten() {
        let aborts = Aborts::default();
        for user in 0..1000 {
            aborts.note(Source::User(user));
            tokio::time::advance(EACH).await;
        }
        assert!(aborts.0.borrow().len() <= MOST_REMEMBERED);
    }
}
