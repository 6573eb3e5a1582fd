//! The task that drives a connection of HTTP/2, whichever end of it is ours: moves its octets, follows what happens around
//! it, waits for nothing longer than it may, and ends it so that the other side is told.
//!
//! Owns the connection's timer and its way to the end. Never looks at a request: what the two ends do differently, they do
//! themselves ([`Driven`]).

mod watch;

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use self::watch::Watch;
use crate::{
    http2::{ConnectionError, Phase, Session},
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
    fn phase(self, session: &Session) -> Phase {
        match self {
            Self::Server { .. } => session.phase(),
            Self::Client { .. } if session.is_closed() => Phase::Closing,
            Self::Client { .. } if session.active_streams() == 0 => Phase::Idle,
            Self::Client { .. } => Phase::Busy,
        }
    }

    const fn idle(self) -> Duration {
        match self {
            Self::Server { idle, .. } | Self::Client { idle, .. } => idle,
        }
    }

    /// A client waits for no head: see [`Self::phase`].
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
pub async fn drive(
    session: &Session,
    stream: &mut impl ByteStream,
    follower: &mut Follower,
    terms: Terms,
    driven: &mut impl Driven,
) -> Result<(), DriveError> {
    let mut watch = Watch::new(terms.probes());
    let (mut was, mut is_told) = (None, false);
    let end = poll_fn(|cx: &mut Context<'_>| {
        loop {
            let end = session.poll_drive(cx, stream);
            driven.turned(session);
            if let Poll::Ready(end) = end {
                return Poll::Ready(end.map_err(DriveError::Failed));
            }
            let phase = terms.phase(session);
            if phase == Phase::Idle {
                watch.rest(session);
            }
            // A busy peer may be in the middle of another head whenever one looks.
            let progress = if phase == Phase::Head { session.progress() } else { 0 };
            let now = (phase, progress, is_told);
            if was.replace(now) != Some(now) {
                let within = |time| Instant::now().checked_add(time);
                follower.set_timer(match phase {
                    Phase::Head => terms.head().and_then(within),
                    Phase::Busy => watch.due(),
                    Phase::Idle if !is_told => within(terms.idle()),
                    Phase::Idle | Phase::Closing => within(LAST_WORDS),
                });
            }
            let is_over = match follower.poll_over(cx, |event| driven.judge(event)) {
                Poll::Ready(Over::Cut(ending)) => return Poll::Ready(Err(DriveError::Cut(ending))),
                Poll::Ready(Over::TimedOut) => match phase {
                    Phase::Head => return Poll::Ready(Err(DriveError::Slow)),
                    Phase::Busy => {
                        watch.look(session);
                        was = None;
                        continue;
                    }
                    Phase::Idle if !is_told => true,
                    Phase::Idle | Phase::Closing => return Poll::Ready(Err(DriveError::Unheard)),
                },
                Poll::Pending => follower.is_finishing() || driven.is_leaving(session),
            };
            if !is_over || is_told {
                return Poll::Pending;
            }
            is_told = true;
            // What tells the other side is yet to be written.
            session.shutdown();
            driven.told();
        }
    })
    .await;
    session.close();
    end
}

#[cfg(test)]
mod tests;
