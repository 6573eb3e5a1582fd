//! What the threads tell each other when descriptors or memory run short: idle connections are to make room, and where memory
//! is nearly used up, whoever holds most is cut off.
//!
//! Owns the sums by which the threads know who that is; what of it is theirs, each finds among its own
//! ([`Registry`](super::connections::Registry), the pools of `upstream`).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use svidecar_process::{clock, memory::Pressure};
use tokio::{sync::watch, time::Instant};

/// Making room takes a moment; until then it is not asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How long somebody who needs room waits for others to make it.
pub const ROOM_IS_MADE: Duration = Duration::from_millis(20);

/// Nobody is cut off who holds less than this, in octets.
const LITTLE: usize = 1 << 20;

/// Asks for room.
pub struct Shortage {
    asked: watch::Sender<Option<Asked>>,
    threads: AtomicUsize,
    held: Arc<Mutex<Sums>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    at: Instant,
    /// How short memory is, if it is memory.
    pub memory: Option<Pressure>,
}

/// What each thread's connections hold, by a number for whose they are, in octets.
type Sums = HashMap<usize, HashMap<u64, usize>>;

/// One thread's view of what is asked for.
pub struct Asks {
    asked: watch::Receiver<Option<Asked>>,
    thread: usize,
    held: Arc<Mutex<Sums>>,
}

impl Default for Shortage {
    fn default() -> Self {
        Self { asked: watch::Sender::new(None), threads: AtomicUsize::new(0), held: Arc::default() }
    }
}

impl Shortage {
    /// Asks all threads to make some room.
    pub fn tell(&self) {
        self.ask(None);
    }

    /// The same for want of memory.
    pub fn tell_of_memory(&self, pressure: Pressure) {
        self.ask(Some(pressure));
    }

    fn ask(&self, memory: Option<Pressure>) {
        let at = clock::timer();
        self.asked.send_if_modified(|last| {
            let is_due = memory == Some(Pressure::Cut)
                || last.is_none_or(|last| at.duration_since(last.at) >= ASK_AGAIN);
            if is_due {
                *last = Some(Asked { at, memory });
            }
            is_due
        });
    }

    /// Follows what is asked for from now on, for one more thread.
    #[must_use]
    pub fn subscribe(&self) -> Asks {
        Asks {
            asked: self.asked.subscribe(),
            thread: self.threads.fetch_add(1, Ordering::Relaxed),
            held: Arc::clone(&self.held),
        }
    }
}

impl Asks {
    /// Waits until something is asked for. None when nobody is there any more to ask.
    pub async fn next(&mut self) -> Option<Asked> {
        self.asked.changed().await.ok()?;
        *self.asked.borrow_and_update()
    }

    /// Says what this thread's connections hold. Returns whose hold most, of all threads together, if that is much.
    pub fn greediest(&self, held: HashMap<u64, usize>) -> Option<u64> {
        let mut sums = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        sums.insert(self.thread, held);
        let mut all = HashMap::<u64, usize>::new();
        for (whose, octets) in sums.values().flatten() {
            *all.entry(*whose).or_default() += octets;
        }
        drop(sums);
        let greediest = all.into_iter().max_by_key(|(_, octets)| *octets);
        greediest.filter(|(_, octets)| *octets >= LITTLE).map(|(whose, _)| whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_wishes_is_one() {
        let shortage = Shortage::default();
        let mut asks = shortage.subscribe();
        shortage.tell();
        shortage.tell();
        assert_eq!(asks.next().await.unwrap().memory, None);
        shortage.tell();
        assert!(!asks.asked.has_changed().unwrap());
        tokio::time::advance(ASK_AGAIN).await;
        shortage.tell();
        assert!(asks.next().await.is_some());
        shortage.tell_of_memory(Pressure::Short);
        assert!(!asks.asked.has_changed().unwrap());
        shortage.tell_of_memory(Pressure::Cut);
        assert_eq!(asks.next().await.unwrap().memory, Some(Pressure::Cut));
    }

    #[test]
    fn who_holds_most_is_known_by_all_threads_together() {
        let shortage = Shortage::default();
        let (one, other) = (shortage.subscribe(), shortage.subscribe());
        assert_eq!(one.greediest(HashMap::from([(7, LITTLE - 1)])), None);
        assert_eq!(one.greediest(HashMap::from([(7, 3 * LITTLE), (8, 2 * LITTLE)])), Some(7));
        assert_eq!(other.greediest(HashMap::from([(8, 2 * LITTLE)])), Some(8));
        assert_eq!(one.greediest(HashMap::new()), Some(8));
    }
}
