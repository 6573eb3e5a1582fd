//! When to ask the agent again. Pure: chance and times are given.
//!
//! Nothing is at stake but a local socket, so an agent that comes back, or an entry that is made, is not waited for longer than
//! a second; and an agent that answers and ends each time does not keep both sides busy.

use std::time::Duration;

use svidecar_process::Backoff;

/// Waits between tries.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Looking whether a socket is there asks nobody anything.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// After `InvalidArgument`, which should not be tried again (I6). Never again would mean that one such answer, of an agent
/// that was half way through an update, is the end of a workload.
const SLOW: Duration = Duration::from_secs(60);

/// A stream that lasted so long was no accident of the agent: its end is one (I8).
const STEADY: Duration = Duration::from_secs(10);

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Was {
    /// There is no socket, or nobody behind it.
    NobodyThere,
    /// There is no answer, or a "no"; or the stream ended.
    Refused,
    /// The agent does not take our request for one.
    Misunderstood,
}

/// The pace of the tries.
pub(super) struct Pace {
    backoff: Backoff,
    /// The next end of a stream that delivered is followed by another try at once.
    at_once: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT), at_once: true }
    }
}

impl Pace {
    /// How long to wait now. `served` is for how long there was a stream, if it delivered anything; `spread` as in
    /// [`Backoff::next_wait`].
    pub(super) fn wait(&mut self, was: Was, served: Option<Duration>, spread: f64) -> Duration {
        if served.is_some_and(|served| served >= STEADY) {
            self.backoff.reset();
            self.at_once = true;
        }
        match was {
            Was::Misunderstood => SLOW.mul_f64(1.0 + spread.clamp(0.0, 1.0)),
            // I8
            _ if served.is_some() && std::mem::take(&mut self.at_once) => Duration::ZERO,
            Was::NobodyThere => LOOK_AGAIN,
            Was::Refused => self.backoff.next_wait(spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(pace: &mut Pace, was: Was, served: Option<Duration>, times: usize) -> Vec<u128> {
        (0..times).map(|_| pace.wait(was, served, 1.0).as_millis()).collect()
    }

    /// I8
    #[test]
    fn a_stream_that_worked_is_opened_again_at_once() {
        let mut pace = Pace::default();
        assert_eq!(waits(&mut pace, Was::Refused, Some(STEADY), 3), [0, 0, 0]);
    }

    #[test]
    fn an_agent_that_delivers_and_ends_each_time_is_asked_ever_less_often() {
        let mut pace = Pace::default();
        let short = Some(Duration::from_millis(1));
        assert_eq!(waits(&mut pace, Was::Refused, short, 7), [0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(waits(&mut pace, Was::Refused, Some(STEADY), 1), [0]);
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_second() {
        let mut pace = Pace::default();
        assert_eq!(waits(&mut pace, Was::Refused, None, 6), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(waits(&mut pace, Was::NobodyThere, None, 3), [100, 100, 100]);
    }

    /// I6
    #[test]
    fn a_request_that_is_refused_as_such_is_tried_again_slowly() {
        let mut pace = Pace::default();
        assert_eq!(waits(&mut pace, Was::Misunderstood, None, 2), [120_000, 120_000]);
        assert_eq!(pace.wait(Was::Misunderstood, Some(STEADY), 0.0), SLOW);
    }
}
