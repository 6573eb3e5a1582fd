//! HTTP/1 connections to one address that wait for their next request.
//!
//! Nothing runs for a connection that waits: whether the other side has closed it is looked at when it is wanted. One
//! task per pool closes what has waited too long, or may not be used any more, and everything when room is needed: nobody misses
//! what waits. It lives only while something waits.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::{Context, Waker},
    time::Duration,
};

use svidecar_process::clock;
use tokio::time::Instant;

use super::facts::ConnectionFacts;
use crate::{
    http1,
    io::Transport,
    runtime::{
        connections::{Event, Fate, Follower, Over},
        drain::Direction,
        worker::Worker,
    },
};

/// Connections that are kept of one address; the oldest goes first.
const MAX_IDLE: usize = 256;

/// An HTTP/1 connection to an upstream.
pub type Connection = Box<http1::Connection<Transport>>;

/// Connections to one address.
pub struct Pool {
    idle: RefCell<Vec<Waiting>>,
    idle_timeout: Duration,
    is_reaping: Cell<bool>,
}

struct Waiting {
    connection: Connection,
    facts: Rc<ConnectionFacts>,
    since: Instant,
}

impl Pool {
    /// An empty pool that closes what was not used for `idle_timeout`.
    #[must_use]
    pub fn new(idle_timeout: Duration) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), idle_timeout, is_reaping: Cell::new(false) })
    }

    /// Whether a connection waits in it, or is to come back.
    #[must_use]
    pub fn is_in_use(self: &Rc<Self>) -> bool {
        // Who has a connection of it, has it too.
        Rc::strong_count(self) > 1 || !self.idle.borrow().is_empty()
    }

    /// A connection that is alive, the one used last first: it is the least likely to have been closed by the other
    /// side.
    pub fn take(&self, worker: &Worker) -> Option<(Connection, Rc<ConnectionFacts>)> {
        loop {
            let Waiting { mut connection, facts, since } = self.idle.borrow_mut().pop()?;
            let is_old = clock::timer() - since >= self.idle_timeout;
            if !is_old && facts.is_usable(worker) && is_quiet(&mut connection) {
                return Some((connection, facts));
            }
        }
    }

    /// The connection may serve another request.
    pub fn give_back(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        connection: Connection,
        facts: Rc<ConnectionFacts>,
    ) {
        if !facts.is_usable(worker) || facts.spec.open.is_crowded() {
            return;
        }
        let oldest = {
            let mut idle = self.idle.borrow_mut();
            let oldest = (idle.len() >= MAX_IDLE).then(|| idle.remove(0));
            idle.push(Waiting { connection, facts, since: clock::timer() });
            oldest
        };
        // Closed outside of the borrow: its end may come back to us.
        drop(oldest);
        if !self.is_reaping.replace(true) {
            let mut follower = worker.follower(Direction::Outbound).of_what_waits();
            follower.set_timer(clock::timer().checked_add(self.idle_timeout));
            worker.spawn(reap(Rc::downgrade(self), Rc::clone(worker), follower));
        }
    }

    /// Closes those that wait on a connection that takes no new request, so that it can end.
    pub fn close_retired(&self) {
        let mut stay = self.idle.take();
        stay.retain(|waiting| !waiting.facts.is_retired());
        self.idle.replace(stay);
    }

    /// Closes those that wait on a connection that would not be made any more.
    fn close_unusable(&self, worker: &Worker) {
        let mut stay = self.idle.take();
        stay.retain(|waiting| waiting.facts.is_usable(worker));
        self.idle.replace(stay);
    }

    fn close_all(&self) {
        // Closed outside of the borrow: its end may come back to us.
        drop(self.idle.take());
    }

    /// Closes what has waited too long or was closed by the other side; says when to come again.
    fn close_old(&self) -> Option<Instant> {
        let now = clock::timer();
        let ends = |since: Instant| since + self.idle_timeout;
        let mut stay = self.idle.take();
        stay.retain_mut(|waiting| ends(waiting.since) > now && is_quiet(&mut waiting.connection));
        let next = stay.first().map(|oldest| ends(oldest.since));
        self.idle.replace(stay);
        self.is_reaping.set(next.is_some());
        next
    }
}

/// Whether the other side neither closed it nor sent what nobody asked for.
fn is_quiet(connection: &mut Connection) -> bool {
    connection.poll_idle(&mut Context::from_waker(Waker::noop())).is_pending()
}

async fn reap(pool: Weak<Pool>, worker: Rc<Worker>, mut follower: Follower) {
    let judge = |event| {
        match (event, pool.upgrade()) {
            (Event::Changed, Some(pool)) => pool.close_unusable(&worker),
            (Event::Crowded, Some(pool)) => pool.close_all(),
            _ => {}
        }
        Fate::GoesOn
    };
    while follower.over(judge).await == Over::TimedOut {
        let next = pool.upgrade().and_then(|pool| pool.close_old());
        if next.is_none() {
            return;
        }
        follower.set_timer(next);
    }
}
