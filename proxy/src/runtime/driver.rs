//! The task that drives a connection of HTTP/2, whichever end of it is ours: moves its octets, follows what happens around
//! it, waits for nothing longer than it may, and ends it so that the other side is told.
//!
//! Owns the connection's timer and its way to the end. Never looks at a request: what the two ends do differently, they do
//! themselves ([`Driven`]).

mod watch;

use std::{
    future::{Future, poll_fn},
    task::{Context, Poll, ready},
    time::Duration,
};

use svidecar_process::clock;

use self::watch::Watch;
use crate::{
    http2::{Activity, ConnectionError, Session},
    io::ByteStream,
    runtime::connections::{Ending, Event, Fate, Follower, Over},
};

/// How long the other side may take for what it is told last.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Which end is ours, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub enum Terms {
    /// Requests come.
    Server {
        /// For a head to be complete, once it has begun.
        head: Duration,
        /// For the next request, while none runs.
        idle: Duration,
    },
    /// Requests go.
    Client {
        /// For the next request, while none runs.
        idle: Duration,
        /// Whether a server that owes an answer and says nothing is asked if it is there. Other servers than ours may take
        /// PINGs without data for an attack.
        probes: bool,
    },
}

impl Terms {
    /// What the connection is busy with, as far as this end waits for it: a client for nothing but the end of its streams.
    fn activity(self, session: &Session) -> Activity {
        match self {
            Self::Server { .. } => session.activity(),
            Self::Client { .. } if session.is_closed() => Activity::Closing,
            Self::Client { .. } if session.active_streams() == 0 => Activity::Idle,
            Self::Client { .. } => Activity::Busy,
        }
    }

    const fn idle(self) -> Duration {
        match self {
            Self::Server { idle, .. } | Self::Client { idle, .. } => idle,
        }
    }

    /// A client waits for no head: see [`Self::activity`].
    const fn head(self) -> Option<Duration> {
        match self {
            Self::Server { head, .. } => Some(head),
            Self::Client { .. } => None,
        }
    }

    const fn probes(self) -> bool {
        matches!(self, Self::Client { probes: true, .. })
    }
}

/// The end that is ours, as its driver sees it.
pub trait Driven {
    /// Octets were moved: takes what came with them.
    fn turned(&mut self, session: &Session);

    /// What an event means for the connection.
    fn judge(&mut self, event: Event) -> Fate;

    /// Whether it is to end for a reason that is no event.
    fn is_leaving(&self, session: &Session) -> bool;

    /// The other side is being told that the connection takes nothing new. Once, and before the end if that comes regularly.
    fn told(&mut self);
}

/// Why a connection did not come to a regular end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// It failed, or the other side broke a rule.
    #[error(transparent)]
    Failed(ConnectionError),
    /// It was cut from outside.
    #[error("{}", .0.code())]
    Cut(Ending),
    /// The other side began a frame of a head and did not go on.
    #[error("a frame was not complete in time")]
    Slow,
    /// The other side said nothing to what it was told last.
    #[error("the peer did not hear that the connection ends")]
    Unheard,
}

/// Drives a connection until it has ended; nothing of it runs afterwards.
///
/// # Errors
/// Why it did not end as it should.
pub fn drive<'c, S: ByteStream, D: Driven>(
    session: &'c Session,
    stream: &'c mut S,
    follower: &'c mut Follower,
    terms: Terms,
    driven: &'c mut D,
) -> impl Future<Output = Result<(), DriveError>> {
    let watch = Watch::new(terms.probes());
    let mut driver = Driver { session, stream, follower, terms, driven, watch, was: None, is_told: false };
    // An async function would hold some of it twice, for each connection.
    poll_fn(move |cx| driver.poll(cx))
}

/// A connection that is being driven.
struct Driver<'c, S, D> {
    session: &'c Session,
    stream: &'c mut S,
    follower: &'c mut Follower,
    terms: Terms,
    driven: &'c mut D,
    watch: Watch,
    /// What its timer was set for.
    was: Option<(Activity, u32, bool)>,
    is_told: bool,
}

impl<S: ByteStream, D: Driven> Driver<'_, S, D> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DriveError>> {
        let end = ready!(self.poll_end(cx));
        self.session.close();
        Poll::Ready(end)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DriveError>> {
        loop {
            let end = self.session.poll_drive(cx, self.stream);
            self.driven.turned(self.session);
            if let Poll::Ready(end) = end {
                return Poll::Ready(end.map_err(DriveError::Failed));
            }
            let activity = self.terms.activity(self.session);
            self.set_timer(activity);
            let judge = |event| match event {
                Event::Weighed => Fate::Holds(self.session.held()),
                event => self.driven.judge(event),
            };
            let is_over = match self.follower.poll_over(cx, judge) {
                Poll::Ready(Over::Cut(ending)) => return Poll::Ready(Err(DriveError::Cut(ending))),
                Poll::Ready(Over::TimedOut) => match activity {
                    Activity::Head => return Poll::Ready(Err(DriveError::Slow)),
                    Activity::Busy => {
                        self.watch.look(self.session);
                        self.was = None;
                        continue;
                    }
                    Activity::Idle if !self.is_told => true,
                    Activity::Idle | Activity::Closing => return Poll::Ready(Err(DriveError::Unheard)),
                },
                Poll::Pending => self.follower.is_finishing() || self.driven.is_leaving(self.session),
            };
            if !is_over || self.is_told {
                return Poll::Pending;
            }
            self.is_told = true;
            // What tells the other side is yet to be written.
            self.session.shutdown();
            self.driven.told();
        }
    }

    /// Sets the timer where the connection does something else than before.
    fn set_timer(&mut self, activity: Activity) {
        if activity == Activity::Idle {
            self.watch.rest(self.session);
        }
        // A busy peer may be in the middle of another head whenever one looks.
        let progress = if activity == Activity::Head { self.session.progress() } else { 0 };
        let now = (activity, progress, self.is_told);
        if self.was.replace(now) == Some(now) {
            return;
        }
        let within = |time| clock::timer().checked_add(time);
        self.follower.set_timer(match activity {
            Activity::Head => self.terms.head().and_then(within),
            Activity::Busy => self.watch.due(),
            Activity::Idle if !self.is_told => within(self.terms.idle()),
            Activity::Idle | Activity::Closing => within(LAST_WORDS),
        });
    }
}

#[cfg(test)]
mod tests;
