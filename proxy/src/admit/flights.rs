//! What the running requests of one connection were allowed by, so that they can be decided again when the policy changes.
//!
//! One thread's; its memory is used again for the next request of the connection.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use svidecar_id::SpiffeId;
use svidecar_policy::Policy;

use super::decide::ask;
use crate::message::{Fields, Summary, head::MOST_KEPT};

/// Requests whose memory is kept for later ones.
const MOST_SPARE: usize = 32;

/// The requests that a connection's fate depends on.
#[derive(Default)]
pub struct Flights {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    running: Vec<Rc<Flight>>,
    /// The last that was allowed: what an idle connection is judged by.
    last: Option<Rc<Flight>>,
    spare: Vec<Rc<Flight>>,
}

/// What a decision about a request rested on, and how to end the request if the decision changes.
#[derive(Default)]
struct Flight {
    summary: Summary,
    /// Only when the policy asks for headers.
    fields: Option<Box<Fields>>,
    killed: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// A running request that was allowed. Forgotten when this goes.
pub struct InFlight {
    flights: Rc<Flights>,
    flight: Rc<Flight>,
}

/// A running request that is no longer allowed.
pub struct Loser(Rc<Flight>);

impl Flights {
    /// Remembers a request that was allowed by `policy`, as it was decided about.
    #[must_use]
    pub fn take_off(self: &Rc<Self>, policy: &Policy, summary: &Summary, fields: &Fields) -> InFlight {
        let mut state = self.state.borrow_mut();
        let mut flight = state.spare.pop().unwrap_or_default();
        match Rc::get_mut(&mut flight) {
            Some(flight) => flight.begin(policy, summary, fields),
            // A spare flight is nobody else's; if it were, it would not be touched.
            None => {
                let mut fresh = Flight::default();
                fresh.begin(policy, summary, fields);
                flight = Rc::new(fresh);
            }
        }
        state.running.push(Rc::clone(&flight));
        if let Some(before) = state.last.replace(Rc::clone(&flight)) {
            state.recycle(before, 1);
        }
        drop(state);
        InFlight { flights: Rc::clone(self), flight }
    }

    /// Decides again about everything on the connection. Returns the running requests that lose, and whether the
    /// connection itself does.
    #[must_use]
    pub fn decide_again(&self, policy: &Policy, peer: Option<&SpiffeId>) -> (Vec<Loser>, bool) {
        let state = self.state.borrow();
        let loses = |flight: &&Rc<Flight>| !flight.is_still_allowed(policy, peer);
        let losers: Vec<_> =
            state.running.iter().filter(loses).map(|flight| Loser(Rc::clone(flight))).collect();
        let idle_loses = state.running.is_empty() && state.last.as_ref().is_some_and(|last| loses(&last));
        let connection_loses = idle_loses || !losers.is_empty();
        (losers, connection_loses)
    }

    /// How many requests run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.state.borrow().running.len()
    }
}

impl State {
    /// Keeps the memory of a request that nobody but these `holders` looks at any more.
    fn recycle(&mut self, flight: Rc<Flight>, holders: usize) {
        let is_free = Rc::strong_count(&flight) == holders;
        if is_free && self.spare.len() < MOST_SPARE && flight.memory() <= MOST_KEPT {
            self.spare.push(flight);
        }
    }
}

impl Flight {
    fn begin(&mut self, policy: &Policy, summary: &Summary, fields: &Fields) {
        self.summary.clone_from(summary);
        match &mut self.fields {
            _ if !policy.reads_headers() => self.fields = None,
            Some(kept) => kept.as_mut().clone_from(fields),
            None => self.fields = Some(Box::new(fields.clone())),
        }
        self.killed.set(false);
        self.waker.set(None);
    }

    fn memory(&self) -> usize {
        self.summary.memory() + self.fields.as_ref().map_or(0, |fields| fields.memory())
    }

    fn is_still_allowed(&self, policy: &Policy, peer: Option<&SpiffeId>) -> bool {
        ask(policy, peer, &self.summary, self.fields.as_deref()).is_allowed()
    }
}

impl InFlight {
    /// Ready when the request has to end; else wakes the task of `cx`, the latest one that asked, when it has.
    pub fn poll_killed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.flight.killed.get() {
            return Poll::Ready(());
        }
        let waker = self.flight.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.flight.waker.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.flights.state.borrow_mut();
        if let Some(at) = state.running.iter().position(|flight| Rc::ptr_eq(flight, &self.flight)) {
            let flight = state.running.swap_remove(at);
            flight.waker.set(None);
            // Held by itself and by this guard, and else by `last` or by a loser's grace.
            state.recycle(flight, 2);
        }
    }
}

impl Loser {
    /// Ends the request, if it still runs.
    pub fn kill(&self) {
        self.0.killed.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use svidecar_policy::Protocol;

    use super::*;
    use crate::message::RequestHead;

    fn policy(rule: &str) -> Policy {
        let text = format!("service: s\nrules: [{{name: r, from: any, to: {rule}}}]");
        Policy::parse(&text, "p.yaml".as_ref(), Protocol::Http).unwrap()
    }

    fn peer() -> SpiffeId {
        SpiffeId::parse("spiffe://demo.org/shop").unwrap()
    }

    fn fly(flights: &Rc<Flights>, policy: &Policy, path: &str) -> InFlight {
        let fields = [("x-env", "prod")].into_iter().collect();
        let head =
            RequestHead { method: "GET".into(), target: path.into(), fields, ..RequestHead::default() };
        let mut summary = Summary::default();
        summary.set(&head);
        flights.take_off(policy, &summary, &head.fields)
    }

    #[test]
    fn only_the_requests_that_lose_are_named() {
        let flights = Rc::new(Flights::default());
        let all = policy("{methods: [GET]}");
        let (a, b) = (fly(&flights, &all, "/a"), fly(&flights, &all, "/b"));
        let (losers, connection_loses) = flights.decide_again(&policy("{paths: [/b]}"), Some(&peer()));
        assert_eq!((losers.len(), connection_loses), (1, true));
        let cx = Context::from_waker(Waker::noop());
        assert!(a.poll_killed(&cx).is_pending());
        losers.iter().for_each(Loser::kill);
        assert!(a.poll_killed(&cx).is_ready() && b.poll_killed(&cx).is_pending());
        let (losers, connection_loses) = flights.decide_again(&all, Some(&peer()));
        assert_eq!((losers.len(), connection_loses), (0, false));
    }

    #[test]
    fn an_idle_connection_is_judged_by_its_last_request() {
        let flights = Rc::new(Flights::default());
        let all = policy("{methods: [GET]}");
        assert!(!flights.decide_again(&policy("{paths: [/b]}"), Some(&peer())).1);
        drop(fly(&flights, &all, "/b"));
        drop(fly(&flights, &all, "/a"));
        assert_eq!(flights.running(), 0);
        assert!(flights.decide_again(&policy("{paths: [/b]}"), Some(&peer())).1);
        assert!(!flights.decide_again(&policy("{paths: [/a]}"), Some(&peer())).1);
    }

    #[test]
    fn headers_are_kept_for_a_policy_that_reads_them() {
        let flights = Rc::new(Flights::default());
        let prod = policy("{headers: {x-env: prod}}");
        let _running = fly(&flights, &prod, "/a");
        assert!(!flights.decide_again(&prod, Some(&peer())).1);
        assert!(flights.decide_again(&policy("{headers: {x-env: dev}}"), Some(&peer())).1);
    }

    #[test]
    fn memory_is_used_again() {
        let flights = Rc::new(Flights::default());
        let all = policy("{methods: [GET]}");
        for _ in 0..10 {
            let both = (fly(&flights, &all, "/a"), fly(&flights, &all, "/b"));
            drop(both);
        }
        // Two that ran together, and one of them is what the connection is judged by now.
        assert_eq!(flights.state.borrow().spare.len(), 1);
        let spare = Rc::as_ptr(&flights.state.borrow().spare[0]);
        assert_eq!(Rc::as_ptr(&fly(&flights, &all, "/b").flight), spare);
        // One that is unusually large is not kept.
        let large = format!("/{}", "a".repeat(MOST_KEPT));
        drop((fly(&flights, &all, &large), fly(&flights, &all, "/c"), fly(&flights, &all, "/d")));
        assert!(flights.state.borrow().spare.iter().all(|flight| flight.memory() <= MOST_KEPT));
    }
}
