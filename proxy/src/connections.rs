//! What can happen to a live connection from outside of it: the snapshot changed, the proxy drains, the peer's SVID
//! expired, its time is up.
//!
//! Each connection follows these events itself, in its own task, and ends only for a reason of its own; nothing
//! here closes connections wholesale.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use rustls_pki_types::UnixTime;
use tokio::{
    sync::watch,
    time::{Instant, Sleep},
};

use crate::drain::{Direction, Phase, reaches};

/// What a connection whose decision changed may still take to finish its response.
pub const LOSER_GRACE: Duration = Duration::from_secs(2);

/// Connections of one peer do not all end at the same moment: each leaves up to this long, or a tenth of what is
/// left, before its peer's SVID expires.
const MAX_EXPIRY_JITTER: Duration = Duration::from_secs(30);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new snapshot is in force: decide again.
    Changed,
    /// Finish what you do and end.
    Draining,
    /// The peer's SVID is about to expire, or has.
    PeerExpired,
    /// End now: the drain was forced or the connection's own deadline passed.
    TimeIsUp,
}

/// One connection's view of what happens around it.
pub struct Lifeline {
    snapshot: watch::Receiver<u64>,
    phase: watch::Receiver<Phase>,
    direction: Direction,
    told_to_drain: bool,
    expiry: Option<Pin<Box<Sleep>>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Lifeline {
    /// Follows the snapshot's version and the drain's phase from now on.
    #[must_use]
    pub fn new(
        mut snapshot: watch::Receiver<u64>,
        phase: watch::Receiver<Phase>,
        direction: Direction,
    ) -> Self {
        snapshot.mark_unchanged();
        Self { snapshot, phase, direction, told_to_drain: false, expiry: None, deadline: None }
    }

    /// Tells [`Event::PeerExpired`] once, `in_time` from now.
    pub fn expire_after(&mut self, in_time: Duration) {
        self.expiry = Some(Box::pin(tokio::time::sleep(in_time)));
    }

    /// Tells [`Event::TimeIsUp`] at the latest after `grace`. An earlier deadline stays.
    pub fn end_within(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        match &mut self.deadline {
            Some(deadline) if deadline.deadline() <= at => {}
            Some(deadline) => deadline.as_mut().reset(at),
            None => self.deadline = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> Event {
        let phase_event = {
            let (direction, told) = (self.direction, self.told_to_drain);
            self.phase.wait_for(move |phase| *phase == Phase::Force || (!told && reaches(*phase, direction)))
        };
        tokio::select! {
            biased;
            phase = phase_event => match phase.map(|phase| *phase) {
                Ok(phase) if phase < Phase::Force => {
                    self.told_to_drain = true;
                    Event::Draining
                }
                // The proxy itself is gone: there is nobody left to serve for.
                _ => Event::TimeIsUp,
            },
            () = elapsed(&mut self.deadline) => Event::TimeIsUp,
            () = elapsed(&mut self.expiry) => {
                self.expiry = None;
                Event::PeerExpired
            }
            changed = self.snapshot.changed() => match changed {
                Ok(()) => Event::Changed,
                Err(_) => Event::TimeIsUp,
            },
        }
    }
}

/// Pends forever when there is no timer.
async fn elapsed(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// How long from `now` until a connection of a peer whose SVID ends at `not_after` should begin to leave.
/// `spread` in 0..1 picks the connection's place in the jitter.
#[must_use]
pub fn time_to_leave(not_after: UnixTime, now: UnixTime, spread: f64) -> Duration {
    let left = Duration::from_secs(not_after.as_secs().saturating_sub(now.as_secs()));
    let jitter = MAX_EXPIRY_JITTER.min(left / 10).mul_f64(spread.clamp(0.0, 1.0));
    left.saturating_sub(jitter)
}

/// Ends one request's response from outside.
#[derive(Default)]
pub struct KillSwitch {
    killed: AtomicBool,
    waker: AtomicWaker,
}

impl KillSwitch {
    /// Ends the response; does nothing the second time.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready when killed; else wakes the task of `cx`, the latest one that asked, when it is.
    pub fn poll_killed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.killed.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.killed.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until killed.
    pub async fn killed(&self) {
        std::future::poll_fn(|cx| self.poll_killed(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifeline(direction: Direction) -> (watch::Sender<u64>, watch::Sender<Phase>, Lifeline) {
        let snapshot = watch::Sender::new(1);
        let phase = watch::Sender::new(Phase::Running);
        let lifeline = Lifeline::new(snapshot.subscribe(), phase.subscribe(), direction);
        (snapshot, phase, lifeline)
    }

    #[tokio::test(start_paused = true)]
    async fn each_event_is_told_once_and_in_order() {
        let (snapshot, phase, mut lifeline) = lifeline(Direction::Outbound);
        lifeline.expire_after(Duration::from_secs(60));
        snapshot.send_replace(2);
        assert_eq!(lifeline.next().await, Event::Changed);
        phase.send_replace(Phase::Inbound);
        assert_eq!(lifeline.next().await, Event::PeerExpired, "inbound draining is not outbound's business");
        phase.send_replace(Phase::Everything);
        assert_eq!(lifeline.next().await, Event::Draining);
        lifeline.end_within(Duration::from_secs(5));
        lifeline.end_within(Duration::from_secs(50));
        let start = Instant::now();
        assert_eq!(lifeline.next().await, Event::TimeIsUp);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn force_ends_at_once() {
        let (_snapshot, phase, mut lifeline) = lifeline(Direction::Inbound);
        phase.send_replace(Phase::Force);
        assert_eq!(lifeline.next().await, Event::TimeIsUp);
    }

    #[test]
    fn leaving_is_spread_over_at_most_a_tenth_of_what_is_left() {
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(1_000_000 + seconds));
        let now = at(0);
        assert_eq!(time_to_leave(at(100), now, 0.0), Duration::from_secs(100));
        assert_eq!(time_to_leave(at(100), now, 1.0), Duration::from_secs(90));
        assert_eq!(time_to_leave(at(3600), now, 1.0), Duration::from_secs(3570));
        assert_eq!(time_to_leave(now, at(1), 0.5), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_kill_wakes_who_waits() {
        let switch = std::sync::Arc::new(KillSwitch::default());
        let waiting = tokio::spawn({
            let switch = switch.clone();
            async move { switch.killed().await }
        });
        tokio::task::yield_now().await;
        switch.kill();
        waiting.await.unwrap();
    }
}
