//! What the connections of a listener spend, of all workers together, and whom each unit is put down to.
//!
//! Owns the sizes. Asked once for a connection, and never on the way of a request, unless a limit of requests is set. Must
//! never wait: who may have no more is told so.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use svidecar_id::SpiffeId;
use svidecar_process::{Guest, Share, Shares, Source, Waiting, shares::TIMES_FREE};

use crate::http2::Pool;

/// Connections that nobody is known of yet but where they come from: handshakes, and those of our workload before their
/// first request.
const STRANGERS: usize = 1024;

/// Connections of peers that were allowed nothing yet.
const UNDECIDED: usize = 1024;

/// What unfinished heads may take in all, in KiB; and how many of the largest fit in at least.
const HEADS: usize = 64 << 10;
const LARGEST_HEADS: usize = 64;

/// Unfinished heads of whoever was allowed nothing yet.
const FIRST_HEADS: usize = 8;

/// What the windows of all connections may grow by, in KiB.
const WINDOWS: usize = 256 << 10;

/// Whom something is put down to: a peer, or as long as it has not proved who it is, where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Spender {
    /// Somebody from there.
    Source(Source),
    /// The peer of that ID.
    Peer(SpiffeId),
}

/// The budgets of one listener.
pub struct Budgets {
    strangers: Waiting<Source>,
    undecided: Waiting<SpiffeId>,
    connections: Shares<Spender>,
    heads: Shares<Spender>,
    windows: Shares<Spender>,
    requests: Requests,
    patience: Kept<Pool>,
}

/// Something that all connections of a spender have in common, while there is one.
#[derive(Default)]
struct Kept<T>(Mutex<HashMap<Spender, Weak<T>>>);

/// The requests that run, where there is a limit. Counted by each request, so without a lock.
#[derive(Default)]
struct Requests {
    all: Arc<AtomicUsize>,
    by: Kept<AtomicUsize>,
}

/// The requests of one spender among those of a listener.
#[derive(Clone)]
pub struct Running {
    all: Arc<AtomicUsize>,
    own: Arc<AtomicUsize>,
}

/// One request that runs; counted until it is dropped.
pub struct Counted(Running);

/// What a listener allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Connections at the same time.
    pub connections: usize,
    /// Connections of all kinds that there are descriptors for.
    pub most: usize,
    /// The longest head, in bytes.
    pub head: usize,
}

impl Sizes {
    /// Of so many places for connections of one kind that are nobody's yet, as many as leave most descriptors to the others.
    fn places(self, wanted: usize) -> usize {
        wanted.min(self.most / 4)
    }

    fn connections(self) -> usize {
        let places = self.places(STRANGERS) + self.places(UNDECIDED);
        self.connections.min(self.most.saturating_sub(places)).max(1)
    }

    const fn heads(self) -> usize {
        let largest = LARGEST_HEADS * kib(self.head);
        if largest > HEADS { largest } else { HEADS }
    }
}

impl Budgets {
    /// Nothing is spent yet.
    #[must_use]
    pub fn new(sizes: Sizes) -> Self {
        Self {
            strangers: Waiting::new(sizes.places(STRANGERS)),
            undecided: Waiting::new(sizes.places(UNDECIDED)),
            connections: Shares::new(sizes.connections()),
            heads: Shares::new(sizes.heads()),
            windows: Shares::new(WINDOWS),
            requests: Requests::default(),
            patience: Kept::default(),
        }
    }

    /// The listener allows this much from now on. Connections over a smaller limit live on.
    pub fn resize(&self, sizes: Sizes) {
        self.connections.resize(sizes.connections());
        self.heads.resize(sizes.heads());
    }

    /// A place for somebody who has just come.
    pub(super) fn stranger(&self, source: Source) -> Guest<Source> {
        self.strangers.enter(source)
    }

    /// A place for a connection of a peer, until it is allowed something.
    pub(super) fn undecided(&self, peer: SpiffeId) -> Guest<SpiffeId> {
        self.undecided.enter(peer)
    }

    /// One of the listener's connections, if the share of `spender` has one left.
    pub(super) fn connection(&self, spender: Spender) -> Option<Share<Spender>> {
        self.connections.take(spender, 1)
    }

    /// Room for an unfinished head of at most `bytes`.
    pub(super) fn head(&self, spender: Spender, bytes: usize) -> Option<Share<Spender>> {
        let units = kib(bytes);
        // Who has one of the listener's connections was allowed something.
        let most = if self.connections.of(&spender) > 0 { usize::MAX } else { FIRST_HEADS * units };
        self.heads.take_at_most(spender, units, most)
    }

    /// What the windows of a connection may grow by: `most` bytes or a part of that, as the share of `spender` has it.
    pub(super) fn window(&self, spender: &Spender, most: usize) -> Option<Share<Spender>> {
        let parts = [1, 4, 16].map(|part| kib(most) / part);
        parts.into_iter().find_map(|units| self.windows.take(spender.clone(), units))
    }
}

impl Budgets {
    /// Where the requests of `spender` are counted. Takes a lock.
    pub(super) fn running(&self, spender: Spender) -> Running {
        Running { all: Arc::clone(&self.requests.all), own: self.requests.by.of(spender) }
    }

    /// What is endured of `spender`. Takes a lock.
    pub(super) fn patience(&self, spender: Spender) -> Arc<Pool> {
        self.patience.of(spender)
    }
}

impl<T: Default> Kept<T> {
    fn of(&self, spender: Spender) -> Arc<T> {
        let mut by = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = by.get(&spender).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            by.retain(|_, own| own.strong_count() > 0);
            let own = Arc::default();
            by.insert(spender, Arc::downgrade(&own));
            own
        })
    }
}

impl Running {
    /// One more, of `most` that all may have together; shared out as [`Shares`] does it.
    #[must_use]
    pub fn begin(&self, most: usize) -> Option<Counted> {
        let all = self.all.fetch_add(1, Ordering::Relaxed);
        let own = self.own.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.clone());
        let free = most.saturating_sub(all);
        (free > 0 && own < free.saturating_mul(TIMES_FREE)).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
        self.0.own.fetch_sub(1, Ordering::Relaxed);
    }
}

/// In units of KiB, of which something has one at least.
const fn kib(bytes: usize) -> usize {
    let units = bytes.div_ceil(1 << 10);
    if units == 0 { 1 } else { units }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Spender {
        Spender::Peer(SpiffeId::parse(&format!("spiffe://demo.org/{name}")).unwrap())
    }

    fn budgets() -> Budgets {
        Budgets::new(Sizes { connections: 1000, most: usize::MAX, head: 64 << 10 })
    }

    fn all<T>(take: impl FnMut() -> Option<T>) -> Vec<T> {
        std::iter::from_fn(take).collect()
    }

    #[test]
    fn few_descriptors_make_small_budgets() {
        let sizes = |most| Sizes { connections: 10_000, most, head: 64 << 10 };
        assert_eq!((sizes(20_000).places(STRANGERS), sizes(20_000).connections()), (1024, 10_000));
        assert_eq!((sizes(400).places(STRANGERS), sizes(400).connections()), (100, 200));
        assert_eq!(sizes(1).connections(), 1);
    }

    #[test]
    fn who_was_allowed_nothing_has_few_unfinished_heads() {
        let budgets = budgets();
        let denied = all(|| budgets.head(peer("denied"), 60 << 10));
        assert_eq!(denied.len(), FIRST_HEADS);
        let _connection = budgets.connection(peer("allowed")).unwrap();
        let allowed = all(|| budgets.head(peer("allowed"), 60 << 10));
        let bytes = (denied.len() + allowed.len()) * (60 << 10);
        assert!(allowed.len() > 900 && bytes < 64 << 20, "{} heads of {bytes} bytes", allowed.len());
        let _connection = budgets.connection(peer("next")).unwrap();
        assert!(budgets.head(peer("next"), 60 << 10).is_some());
    }

    #[test]
    fn requests_are_shared_out_and_counted_back() {
        let budgets = budgets();
        let (greedy, next) = (budgets.running(peer("greedy")), budgets.running(peer("next")));
        let mut held = all(|| greedy.begin(90));
        assert_eq!(held.len(), 80);
        assert!(next.begin(90).is_some());
        assert!(budgets.running(peer("greedy")).begin(90).is_none(), "on another connection as well");
        assert!(held.pop().is_some());
        assert!(greedy.begin(90).is_some());
        drop((held, greedy));
        assert_eq!(all(|| next.begin(90)).len(), 80);
        assert_eq!(next.all.load(Ordering::Relaxed), 0);
        assert_eq!(budgets.requests.by.0.lock().unwrap().len(), 2);
        let _third = budgets.running(peer("third"));
        assert_eq!(budgets.requests.by.0.lock().unwrap().len(), 2, "who has gone is forgotten");
    }

    #[test]
    fn windows_grow_less_the_more_of_them_one_has() {
        let budgets = budgets();
        let greedy = all(|| budgets.window(&peer("greedy"), 16 << 20));
        let grown: usize = greedy.iter().map(Share::units).sum();
        assert!((13..40).contains(&greedy.len()) && grown < WINDOWS, "{} have {grown} KiB", greedy.len());
        assert!(budgets.window(&peer("next"), 16 << 20).is_some());
    }

    #[test]
    fn heads_may_be_as_large_as_they_may_be() {
        let budgets = Budgets::new(Sizes { connections: 1, most: usize::MAX, head: 16 << 20 });
        assert_eq!(all(|| budgets.head(peer("a"), 16 << 20)).len(), FIRST_HEADS);
    }
}
