//! How a connection stands with its listener: what it holds of the listener's budgets, from the accept to its end.
//!
//! Owns when that changes: a stranger has a place among the strangers; a peer, once its handshake is over, one among those
//! that were allowed nothing yet; and a connection counts against `max_connections` from its first request on that is
//! allowed. Never closes anything: the connection's own task asks whether its place went to another.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use svidecar_id::SpiffeId;
use svidecar_process::{Guest, Share, Source};

use super::budgets::{Budgets, Counted, Running, Spender};
use crate::http2::Pool;

/// What a connection holds.
pub struct Standing {
    budgets: Arc<Budgets>,
    held: RefCell<Held>,
    is_settled: Cell<bool>,
    is_evicted: Cell<bool>,
    /// Where its requests are counted, once there is a limit.
    running: OnceCell<Running>,
    /// The connection that this one is inside of.
    outer: Option<Rc<Self>>,
}

enum Held {
    Stranger(Source, Guest<Source>),
    Undecided(SpiffeId, Guest<SpiffeId>),
    Settled(Share<Spender>),
}

impl Standing {
    /// Of a connection that has just come.
    #[must_use]
    pub fn stranger(budgets: &Arc<Budgets>, source: Source) -> Rc<Self> {
        Self::new(budgets, Held::Stranger(source, budgets.stranger(source)), None)
    }

    /// Of a connection inside of this one.
    #[must_use]
    pub fn inside(self: &Rc<Self>) -> Rc<Self> {
        // What carries others does not go before them.
        self.spoke();
        let held = match self.spender() {
            Spender::Source(source) => Held::Stranger(source, self.budgets.stranger(source)),
            Spender::Peer(peer) => Held::Undecided(peer.clone(), self.budgets.undecided(peer)),
        };
        Self::new(&self.budgets, held, Some(Rc::clone(self)))
    }

    fn new(budgets: &Arc<Budgets>, held: Held, outer: Option<Rc<Self>>) -> Rc<Self> {
        Rc::new(Self {
            budgets: Arc::clone(budgets),
            held: RefCell::new(held),
            is_settled: Cell::new(false),
            is_evicted: Cell::new(false),
            running: OnceCell::new(),
            outer,
        })
    }

    /// The other end has proved that it is `peer`.
    pub fn proved(&self, peer: &SpiffeId) {
        let guest = self.budgets.undecided(peer.clone());
        self.held.replace(Held::Undecided(peer.clone(), guest));
        self.is_evicted.set(false);
    }

    /// The other end has said something: those who have not lose their places first.
    pub fn spoke(&self) {
        match &*self.held.borrow() {
            Held::Stranger(_, guest) => guest.spoke(),
            Held::Undecided(_, guest) => guest.spoke(),
            Held::Settled(_) => {}
        }
    }

    /// Something of it is allowed: it is one of the listener's connections from now on. Says whether it may be, which is
    /// asked once.
    #[must_use]
    pub fn settle(&self) -> bool {
        self.is_settled.get() || self.take_share()
    }

    fn take_share(&self) -> bool {
        if !self.outer.as_ref().is_none_or(|outer| outer.settle()) {
            return false;
        }
        let Some(share) = self.budgets.connection(self.spender()) else { return false };
        self.held.replace(Held::Settled(share));
        self.is_settled.set(true);
        true
    }

    /// Whether it is one of the listener's connections.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.is_settled.get()
    }

    /// Whether its place is known to have gone to another.
    #[must_use]
    pub const fn is_evicted(&self) -> bool {
        self.is_evicted.get() && !self.is_settled.get()
    }

    /// Ready when its place went to another.
    pub fn poll_evicted(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_settled() {
            return Poll::Pending;
        }
        let mut cx = Context::from_waker(cx.waker());
        let is_evicted = self.is_evicted.get()
            || match &mut *self.held.borrow_mut() {
                Held::Stranger(_, guest) => pin!(guest.evicted()).poll(&mut cx).is_ready(),
                Held::Undecided(_, guest) => pin!(guest.evicted()).poll(&mut cx).is_ready(),
                Held::Settled(_) => false,
            };
        self.is_evicted.set(is_evicted);
        if is_evicted { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Room for a head of at most `bytes` that is not complete.
    #[must_use]
    pub fn head(&self, bytes: usize) -> Option<Share<Spender>> {
        self.budgets.head(self.spender(), bytes)
    }

    /// One more request, of `most` that all connections of the listener may have.
    #[must_use]
    pub fn request(&self, most: usize) -> Option<Counted> {
        self.running.get_or_init(|| self.budgets.running(self.spender())).begin(most)
    }

    /// What is endured of whoever this is, on all its connections together. Takes a lock.
    #[must_use]
    pub fn patience(&self) -> Arc<Pool> {
        self.budgets.patience(self.spender())
    }

    /// What the windows of the connection may grow by: `most` bytes, or less.
    #[must_use]
    pub fn window(&self, most: usize) -> Option<Share<Spender>> {
        self.budgets.window(&self.spender(), most)
    }

    fn spender(&self) -> Spender {
        match &*self.held.borrow() {
            Held::Stranger(source, _) => Spender::Source(*source),
            Held::Undecided(peer, _) => Spender::Peer(peer.clone()),
            Held::Settled(share) => share.key().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::runtime::budgets::Sizes;

    fn budgets(connections: usize) -> Arc<Budgets> {
        Arc::new(Budgets::new(Sizes { connections, most: usize::MAX, head: 64 << 10 }))
    }

    fn peer(budgets: &Arc<Budgets>, name: &str) -> Rc<Standing> {
        let standing = Standing::stranger(budgets, Source::Unknown);
        standing.proved(&SpiffeId::parse(&format!("spiffe://demo.org/{name}")).unwrap());
        standing
    }

    fn is_evicted(standing: &Standing) -> bool {
        standing.poll_evicted(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_peer_that_may_do_nothing_takes_no_connection_of_others() {
        let budgets = budgets(10);
        let denied: Vec<_> = (0..5000).map(|_| peer(&budgets, "denied")).collect();
        let allowed: Vec<_> = (0..8).map(|_| peer(&budgets, "allowed")).collect();
        assert!(allowed.iter().all(|standing| standing.settle()));
        assert!(denied[0].poll_evicted(&Context::from_waker(Waker::noop())).is_ready());
        assert!(allowed.iter().all(|standing| !is_evicted(standing)));
        assert!(is_evicted(&denied[0]), "as often as it is asked");
    }

    #[test]
    fn a_connection_and_those_inside_of_it_count_one_by_one() {
        let budgets = budgets(3);
        let outer = peer(&budgets, "a");
        let inside: Vec<_> = (0..3).map(|_| outer.inside()).collect();
        assert!(!outer.is_settled());
        assert_eq!(inside.iter().map(|standing| standing.settle()).collect::<Vec<_>>(), [true, true, false]);
        assert!(outer.is_settled(), "what it carries is allowed");
        drop(inside);
        assert!(outer.inside().settle());
    }

    #[test]
    fn whoever_has_a_connection_does_not_lose_it() {
        let budgets = budgets(10_000);
        let first = peer(&budgets, "a");
        assert!(first.settle());
        let _more: Vec<_> = (0..3000).map(|_| peer(&budgets, "a")).collect();
        assert!(!is_evicted(&first));
    }
}
