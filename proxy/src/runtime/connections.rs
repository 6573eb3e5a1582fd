//! What can happen to a live connection from outside of it: the snapshot changed, the proxy drains, the peer's SVID
//! expired, room is needed, its time is up.
//!
//! Each connection follows these events itself, in its own task, through its [`Follower`], and ends only for a reason
//! of its own; nothing here closes connections wholesale. One task of the worker ([`Registry::follow`]) watches what the
//! threads share and wakes the worker's connections, so that following costs a connection no timer and no lock.

mod registry;
mod timer;

use std::{
    hash::Hash,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use rustls_pki_types::UnixTime;
use svidecar_code::Code;
use svidecar_process::clock;
use tokio::time::Instant;

pub use self::{registry::Registry, timer::Timer};
use crate::runtime::{
    drain::{Direction, Phase, reaches},
    standing::Standing,
};

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
    /// Others need room, and nobody has more connections than whoever this one is of: end when there is nothing to do.
    Crowded,
    /// Memory is short: say what it holds.
    Weighed,
}

/// What an event means for a connection or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    GoesOn,
    /// It finishes what it does and begins nothing new; cut after this long, if that is given.
    Finishes(Ending, Option<Duration>),
    /// Nothing; it holds so many octets.
    Holds(usize),
}

/// Why something is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its decision changed.
    NoLongerAllowed,
    /// It was made with an identity that is not ours any more.
    IdentityReplaced,
    /// The peer's SVID expired.
    PeerExpired,
    /// The proxy goes down, or the listener is gone.
    Drained,
    /// Its place went to another, before anything of it was allowed.
    Crowded,
    /// Memory is nearly used up, and nobody holds more than whoever it is of.
    MemoryShort,
}

impl Ending {
    /// The code of the record.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::NoLongerAllowed => Code::NoLongerAllowed,
            Self::IdentityReplaced => Code::IdentityReplaced,
            Self::PeerExpired => Code::PeerExpired,
            Self::Drained => Code::Draining,
            Self::Crowded => Code::TooManyConnections,
            Self::MemoryShort => Code::MemoryShort,
        }
    }
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It is to be cut now.
    Cut(Ending),
    /// What [`Follower::set_timer`] was set for.
    TimedOut,
}

impl Over {
    /// Why it is cut. Who sets no timer gets no other reason.
    #[must_use]
    pub const fn ending(self) -> Ending {
        match self {
            Self::Cut(ending) => ending,
            Self::TimedOut => Ending::Drained,
        }
    }
}

/// One connection's view of what happens around it.
pub struct Follower {
    registry: Rc<Registry>,
    /// Its place in the registry.
    place: usize,
    direction: Direction,
    /// Of a connection that may lose its place.
    standing: Option<Rc<Standing>>,
    seen: u64,
    /// How often the registry had made room at the last look.
    rooms_seen: u32,
    told_to_drain: bool,
    ending: Option<Ending>,
    expiry: Option<Instant>,
    deadline: Option<Instant>,
    timer: Option<Instant>,
}

impl Follower {
    /// Follows what happens from now on.
    #[must_use]
    pub fn new(registry: &Rc<Registry>, direction: Direction) -> Self {
        Self {
            place: registry.enter(),
            seen: registry.version(),
            rooms_seen: registry.rooms_made(),
            registry: Rc::clone(registry),
            direction,
            standing: None,
            told_to_drain: false,
            ending: None,
            expiry: None,
            deadline: None,
            timer: None,
        }
    }

    /// The same for something that knows what happened up to this version of the snapshot.
    #[must_use]
    pub const fn since(mut self, version: u64) -> Self {
        self.seen = version;
        self
    }

    /// Whose connection it is: it is told [`Event::Crowded`] when others need room and nobody has more.
    #[must_use]
    pub fn counted_as(self, whose: &impl Hash) -> Self {
        self.registry.count_as(self.place, whose);
        self
    }

    /// For connections that wait for nobody: they are told [`Event::Crowded`] first, and each time.
    #[must_use]
    pub fn of_what_waits(self) -> Self {
        self.registry.count_as_waiting(self.place);
        self
    }

    /// The same for a connection that may lose its place.
    #[must_use]
    pub fn standing(mut self, standing: &Rc<Standing>) -> Self {
        self.standing = Some(Rc::clone(standing));
        self
    }

    /// Tells [`Event::PeerExpired`] once, `in_time` from now.
    pub fn expire_after(&mut self, in_time: Duration) {
        self.expiry = clock::timer().checked_add(in_time);
    }

    /// Sets the connection's own timer, or takes it back: [`Over::TimedOut`] at that moment or shortly after. Cheap
    /// enough to be set for each request.
    pub const fn set_timer(&mut self, at: Option<Instant>) {
        self.timer = at;
    }

    /// Whether something new may begin.
    #[must_use]
    pub const fn is_finishing(&self) -> bool {
        self.ending.is_some()
    }

    /// Ready when it is to end now or its timer fires. `judge` says what each event on the way there means.
    pub fn poll_over(&mut self, cx: &Context<'_>, mut judge: impl FnMut(Event) -> Fate) -> Poll<Over> {
        if self.registry.phase() == Phase::Force || self.is_past(self.deadline) {
            return Poll::Ready(Over::Cut(self.ending.unwrap_or(Ending::Drained)));
        }
        if self.is_crowded_out(cx) {
            return Poll::Ready(Over::Cut(Ending::Crowded));
        }
        while let Some(event) = self.next_event() {
            match judge(event) {
                Fate::GoesOn => {}
                Fate::Holds(octets) => self.registry.holds(self.place, octets),
                Fate::Finishes(ending, grace) => {
                    self.ending.get_or_insert(ending);
                    if let Some(grace) = grace {
                        self.end_within(grace);
                    }
                }
            }
        }
        if self.is_past(self.timer) {
            self.timer = None;
            return Poll::Ready(Over::TimedOut);
        }
        let next = [self.expiry, self.deadline, self.timer].into_iter().flatten().min();
        self.registry.wait(self.place, cx, next);
        Poll::Pending
    }

    /// The same, to be awaited.
    pub async fn over(&mut self, mut judge: impl FnMut(Event) -> Fate) -> Over {
        std::future::poll_fn(|cx| self.poll_over(cx, &mut judge)).await
    }

    /// Cuts at the latest after `grace`. An earlier deadline stays.
    fn end_within(&mut self, grace: Duration) {
        let at = clock::timer().checked_add(grace);
        if self.deadline.is_none_or(|deadline| at.is_some_and(|at| at < deadline)) {
            self.deadline = at;
        }
    }

    fn is_crowded_out(&mut self, cx: &Context<'_>) -> bool {
        let Some(standing) = &self.standing else { return false };
        if standing.is_settled() {
            self.standing = None;
            return false;
        }
        standing.poll_evicted(cx).is_ready()
    }

    fn next_event(&mut self) -> Option<Event> {
        if !self.told_to_drain && reaches(self.registry.phase(), self.direction) {
            self.told_to_drain = true;
            return Some(Event::Draining);
        }
        if self.is_past(self.expiry) {
            self.expiry = None;
            return Some(Event::PeerExpired);
        }
        let rooms = self.registry.rooms_made();
        if std::mem::replace(&mut self.rooms_seen, rooms) != rooms {
            if self.registry.is_cut(self.place) {
                self.ending = Some(Ending::MemoryShort);
                self.deadline = Some(self.registry.clock());
                return None;
            }
            if self.ending.is_none() && self.registry.makes_room(self.place) {
                return Some(Event::Crowded);
            }
            if self.registry.weighs() {
                return Some(Event::Weighed);
            }
        }
        let version = self.registry.version();
        (std::mem::replace(&mut self.seen, version) != version).then_some(Event::Changed)
    }

    fn is_past(&self, moment: Option<Instant>) -> bool {
        moment.is_some_and(|moment| moment <= self.registry.clock())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.registry.leave(self.place);
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

#[cfg(test)]
pub(crate) mod tests;
