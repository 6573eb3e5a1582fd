//! Who asks by HTTP: a peer, by an inbound listener, or our workload, by an outbound one; what a request of it rests on,
//! and what an event means for those that run.

use std::{cell::OnceCell, future::Future, rc::Rc, time::Duration};

use svidecar_process::clock;
use tracing::{debug, field::display, warn};

use super::{exchange::Exchange, incoming::Incoming, rules::Rules};
use crate::{
    admit::{
        Admission, Subject,
        flights::{Flights, Loser},
    },
    message::{RequestHead, refusal::Refusal},
    record::Recording,
    runtime::{
        connections::{Ending, Event, Fate, Follower, LOSER_GRACE},
        drain::Direction,
        life::Life,
        standing::Standing,
        worker::Worker,
    },
    upstream::facts::ConnectionFacts,
};

/// A connection from which requests come, whatever they are written in: one of its own, or one inside of a shared one.
pub struct Caller {
    incoming: Rc<Incoming>,
    /// What it is doing, for when the policy changes.
    flights: OnceCell<Rc<Flights>>,
    life: Life,
}

impl Caller {
    /// With its place among the live connections.
    #[must_use]
    pub fn new(incoming: &Rc<Incoming>, life: Life) -> Rc<Self> {
        Rc::new(Self { incoming: Rc::clone(incoming), flights: OnceCell::new(), life })
    }

    /// Its place among the live connections.
    #[must_use]
    pub const fn life(&self) -> &Life {
        &self.life
    }

    /// How it stands with its listener.
    #[must_use]
    pub const fn standing(&self) -> &Rc<Standing> {
        self.life.standing()
    }

    /// The thread it lives on.
    #[must_use]
    pub fn worker(&self) -> &Rc<Worker> {
        self.incoming.worker()
    }

    /// What rules its requests now.
    #[must_use]
    pub fn rules(&self) -> Rc<Rules> {
        self.incoming.rules()
    }

    /// Follows what may end it.
    #[must_use]
    pub fn follower(&self) -> Follower {
        self.incoming.follower().standing(self.standing())
    }

    /// It gave up a request that went over this connection.
    pub fn gave_up(&self, upstream: Option<&ConnectionFacts>) {
        if let Some(upstream) = upstream {
            self.incoming.gave_up(upstream);
        }
    }

    /// How long its next request waits, because it gave up so many.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.incoming.pause()
    }

    /// For its requests, one at a time.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        self.incoming.exchange()
    }

    /// Whether a request may pass, whose head gets the form in which it is forwarded.
    pub fn admit<'a>(
        &'a self,
        rules: &'a Rules,
        head: &'a mut RequestHead,
        record: &'a mut Recording,
    ) -> impl Future<Output = Result<Admission, Refusal>> + use<'a> {
        let subject = Subject::Request { head, flights: &self.flights, standing: self.standing() };
        rules.row.admit(&self.incoming.party, subject, record)
    }

    /// What an event means for the connection, and for what it is doing: a request that goes to `upstream`.
    pub fn judge(&self, event: Event, upstream: Option<&ConnectionFacts>) -> Fate {
        self.incoming.judge(event, upstream, |rules| {
            let Some(flights) = self.flights.get() else { return Fate::GoesOn };
            let (losers, loses) = rules.row.decide_again(&self.incoming.party, flights);
            if !losers.is_empty() {
                self.kill_later(losers);
            }
            // The requests that are still allowed finish; only the losers are cut.
            if loses { Fate::Finishes(Ending::NoLongerAllowed, None) } else { Fate::GoesOn }
        })
    }

    /// Ends the requests that lose, after a grace in which they may finish.
    fn kill_later(&self, losers: Vec<Loser>) {
        let peer = self.incoming.party.id().map(display);
        debug!(peer, requests = losers.len(), "Running requests are no longer allowed");
        self.worker().spawn(async move {
            tokio::time::sleep(LOSER_GRACE).await;
            losers.iter().for_each(Loser::kill);
        });
    }

    /// A request got no answer but ours: says so in the log, where it is not its caller's fault.
    pub fn refused(&self, rules: &Rules, refusal: &Refusal) {
        // Of a peer's the access log tells enough; more lines are what a peer could fill a disk with.
        if rules.listener.direction() == Direction::Inbound {
            return;
        }
        if let Some(leave) = self.worker().shared.throttle.leave(clock::monotonic()) {
            warn!(
                listener = %rules.listener.name(),
                code = refusal.code.name(),
                error = refusal.detail,
                kept_back = leave.kept_back,
                "A request of the workload failed"
            );
        }
    }
}
