//! The live connections of one worker, and the one task that wakes them.
//!
//! Holds wakers and moments, nothing of what a connection is. Events are not sent but seen: a connection compares the
//! version and the phase that it knows with those in here.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::HashMap,
    future::poll_fn,
    hash::{BuildHasher as _, Hash, RandomState},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use svidecar_process::{clock, memory::Pressure};
use tokio::{sync::watch, time::Instant};

use crate::runtime::{
    drain::Phase,
    shortage::{Asked, Asks},
};

/// Timers may be late by this much, so that many of them cost one look.
const GRAIN: Duration = Duration::from_millis(20);

/// The part of the connections of whoever has most that make room at a time.
const MAKES_ROOM: usize = 8;

/// What a connection holds at least, in octets: its task, TLS, and what it reads into.
const AT_LEAST: u32 = 64 << 10;

/// The same number for the same peer on all threads, and none that a peer could choose.
static WHOSE: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What connections are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// To end, where there is nothing to do.
    Room,
    /// To say what they hold.
    Weight,
    /// The same, and to end where they wait for nobody.
    Memory,
}

/// The live connections of a worker.
pub struct Registry {
    /// Of the snapshot in force.
    version: Arc<AtomicU64>,
    phase: Cell<Phase>,
    /// The moment of the last look at the timers: what lies before it is past.
    clock: Cell<Instant>,
    /// When to look next; never later than the first timer.
    next: Cell<Option<Instant>>,
    follower: RefCell<Option<Waker>>,
    slots: RefCell<Slots>,
    /// How often room was made.
    rooms_made: Cell<u32>,
    /// What was asked for last.
    asked: Cell<Wish>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    waker: Option<Waker>,
    wake_at: Option<Instant>,
    /// A hash of whose it is. Two who have the same are taken for one.
    whose: Option<u64>,
    /// What it holds beyond the least, in octets, when it was asked last.
    holds: u32,
    makes_room: bool,
    is_cut: bool,
    /// Of connections that wait for nobody: they make room first, and each time.
    waits: bool,
}

impl Slot {
    const fn weight(&self) -> usize {
        self.holds as usize + AT_LEAST as usize
    }
}

impl Registry {
    /// Without connections, with the snapshot's version and the phase of now.
    #[must_use]
    pub fn new(version: Arc<AtomicU64>, phase: Phase) -> Rc<Self> {
        Rc::new(Self {
            version,
            phase: Cell::new(phase),
            clock: Cell::new(clock::timer()),
            next: Cell::new(None),
            follower: RefCell::default(),
            slots: RefCell::default(),
            rooms_made: Cell::new(0),
            asked: Cell::new(Wish::Room),
        })
    }

    /// Follows the snapshot's version, the drain's phase, the timers and the wish for room, and wakes whom they concern. Runs until the
    /// proxy itself is gone; then there is nobody left to serve for, and everything is cut.
    pub async fn follow(
        &self,
        mut version: watch::Receiver<u64>,
        mut phase: watch::Receiver<Phase>,
        mut shortage: Asks,
    ) {
        loop {
            version.mark_unchanged();
            self.phase.set(*phase.borrow_and_update());
            self.wake_all();
            let changed = loop {
                tokio::select! {
                    changed = version.changed() => break changed,
                    changed = phase.changed() => break changed,
                    () = self.next_timer() => self.wake_due(),
                    // It is asked for by who is there as long as the version is.
                    Some(asked) = shortage.next() => self.make_room_for(asked, &shortage),
                }
            };
            if changed.is_err() {
                self.phase.set(Phase::Force);
                self.wake_all();
                return;
            }
        }
    }

    /// The version of the snapshot in force.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn clock(&self) -> Instant {
        self.clock.get()
    }

    pub(super) fn rooms_made(&self) -> u32 {
        self.rooms_made.get()
    }

    pub(super) fn makes_room(&self, at: usize) -> bool {
        let asks_for_room = self.asked.get() != Wish::Weight;
        self.slots.borrow().all.get(at).is_some_and(|slot| slot.makes_room || slot.waits && asks_for_room)
    }

    pub(super) fn count_as(&self, at: usize, whose: &impl Hash) {
        if let Some(slot) = self.slots.borrow_mut().all.get_mut(at) {
            slot.whose = Some(WHOSE.hash_one(whose));
        }
    }

    pub(super) fn count_as_waiting(&self, at: usize) {
        if let Some(slot) = self.slots.borrow_mut().all.get_mut(at) {
            slot.waits = true;
        }
    }

    /// Whether it is cut off for want of memory.
    pub(super) fn is_cut(&self, at: usize) -> bool {
        self.slots.borrow().all.get(at).is_some_and(|slot| slot.is_cut)
    }

    /// Whether connections are asked what they hold.
    pub(super) fn weighs(&self) -> bool {
        self.asked.get() != Wish::Room
    }

    /// A connection holds this much, in octets.
    pub(super) fn holds(&self, at: usize, octets: usize) {
        if let Some(slot) = self.slots.borrow_mut().all.get_mut(at) {
            slot.holds = u32::try_from(octets).unwrap_or(u32::MAX);
        }
    }

    fn make_room_for(&self, asked: Asked, asks: &Asks) {
        self.asked.set(match asked.memory {
            None => Wish::Room,
            Some(Pressure::Short) => Wish::Weight,
            Some(Pressure::Cut) => Wish::Memory,
        });
        self.rooms_made.set(self.rooms_made.get().wrapping_add(1));
        let Some(pressure) = asked.memory else { return self.make_room() };
        let mut held = HashMap::<u64, usize>::new();
        for slot in &self.slots.borrow().all {
            if let Some(whose) = slot.whose {
                *held.entry(whose).or_default() += slot.weight();
            }
        }
        let greediest = asks.greediest(held).filter(|_| pressure == Pressure::Cut);
        if let Some(greediest) = greediest {
            self.cut(greediest);
        }
        // All say what they hold, to be known when it is asked for again.
        self.wake_all();
    }

    /// Cuts off half of what the connections of `greediest` hold, the heaviest first.
    fn cut(&self, greediest: u64) {
        let mut slots = self.slots.borrow_mut();
        let theirs = slots.all.iter_mut().filter(|slot| slot.whose == Some(greediest) && !slot.is_cut);
        let mut theirs: Vec<_> = theirs.collect();
        theirs.sort_unstable_by_key(|slot| Reverse(slot.weight()));
        let mut left = theirs.iter().map(|slot| slot.weight()).sum::<usize>().div_ceil(2);
        for slot in theirs {
            slot.is_cut = true;
            left = left.saturating_sub(slot.weight());
            if left == 0 {
                return;
            }
        }
    }

    /// Asks what waits, and some connections of whoever has most, to end.
    fn make_room(&self) {
        let mut slots = self.slots.borrow_mut();
        slots
            .all
            .iter_mut()
            .filter(|slot| slot.waits)
            .filter_map(|slot| slot.waker.take())
            .for_each(Waker::wake);
        let stays = |slot: &Slot| slot.whose.filter(|_| !slot.makes_room);
        let mut held = HashMap::<u64, usize>::new();
        for whose in slots.all.iter().filter_map(stays) {
            *held.entry(whose).or_default() += 1;
        }
        let Some((greediest, count)) = held.into_iter().max_by_key(|(_, count)| *count) else { return };
        let theirs = slots.all.iter_mut().filter(|slot| stays(slot) == Some(greediest));
        for slot in theirs.take(count.div_ceil(MAKES_ROOM)) {
            slot.makes_room = true;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    pub(super) fn enter(&self) -> usize {
        let mut slots = self.slots.borrow_mut();
        slots.free.pop().unwrap_or_else(|| {
            slots.all.push(Slot::default());
            slots.all.len() - 1
        })
    }

    /// Nothing is waited for at this place any more.
    pub(super) fn rest(&self, at: usize) {
        if let Some(slot) = self.slots.borrow_mut().all.get_mut(at) {
            *slot = Slot::default();
        }
    }

    pub(super) fn leave(&self, at: usize) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.all.get_mut(at) {
            *slot = Slot::default();
            slots.free.push(at);
        }
    }

    /// Wakes the task of `cx` when something happens, and at `moment` or shortly after.
    pub(super) fn wait(&self, at: usize, cx: &Context<'_>, moment: Option<Instant>) {
        if let Some(slot) = self.slots.borrow_mut().all.get_mut(at) {
            slot.wake_at = moment;
            match &mut slot.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => slot.waker = Some(cx.waker().clone()),
            }
        }
        let Some(moment) = moment else { return };
        if self.next.get().is_none_or(|next| moment < next) {
            self.next.set(Some(moment));
            if let Some(follower) = self.follower.take() {
                follower.wake();
            }
        }
    }

    /// Waits for the moment of the next look, which may be moved forward meanwhile.
    async fn next_timer(&self) {
        let mut sleep = None;
        let mut armed = None;
        let mut sleep = pin!(poll_fn(move |cx| {
            self.follower.replace(Some(cx.waker().clone()));
            let Some(next) = self.next.get() else { return Poll::Pending };
            if armed != Some(next) {
                armed = Some(next);
                sleep = Some(Box::pin(tokio::time::sleep_until(next.max(self.clock.get() + GRAIN))));
            }
            sleep.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
        }));
        sleep.as_mut().await;
    }

    fn wake_due(&self) {
        let now = clock::timer();
        self.clock.set(now);
        let mut slots = self.slots.borrow_mut();
        let mut next: Option<Instant> = None;
        for slot in &mut slots.all {
            let Some(at) = slot.wake_at else { continue };
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            slot.wake_at = None;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
        self.next.set(next);
    }

    fn wake_all(&self) {
        for slot in &mut self.slots.borrow_mut().all {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}
