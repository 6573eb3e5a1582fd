//! Places for what is not finished yet, such as handshakes: nobody is refused, and nobody can hold them all.
//!
//! Owns who has to go when one more comes than there are places: of whoever has most, the one that has been silent longest.
//! It must never close anything itself: it tells the task that holds the place.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// So many places, that keys hold until what they do is finished. Cheap to clone: clones are the same places.
pub struct Waiting<K>(Arc<Mutex<Places<K>>>);

struct Places<K> {
    size: usize,
    next: u64,
    held: usize,
    /// By key, in the order in which they came. No key is here without a place.
    by_key: HashMap<K, BTreeMap<u64, Place>>,
}

struct Place {
    silent: bool,
    evict: oneshot::Sender<()>,
}

/// Who holds a place, until it is dropped.
pub struct Guest<K: Eq + Hash> {
    places: Waiting<K>,
    key: K,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl<K> Clone for Waiting<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Waiting<K> {
    /// `size` places, at least one.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let places = Places { size: size.max(1), next: 0, held: 0, by_key: HashMap::new() };
        Self(Arc::new(Mutex::new(places)))
    }

    /// Places that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.places().held
    }

    fn places(&self) -> MutexGuard<'_, Places<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Waiting<K> {
    /// A place for `key`. When none is free, another one has just lost its own.
    #[must_use]
    pub fn enter(&self, key: K) -> Guest<K> {
        let (evict, evicted) = oneshot::channel();
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        // It counts before somebody has to go, so that a key that has most makes room for itself.
        places.by_key.entry(key.clone()).or_default().insert(number, Place { silent: true, evict });
        places.held += 1;
        if places.held > places.size {
            places.evict_one(number);
        }
        drop(places);
        Guest { places: self.clone(), key, number, evicted }
    }
}

impl<K: Eq + Hash + Clone> Waiting<K> {
    /// Takes half of their places from whoever has most, if that is more than `few`. Says how many it lost.
    pub fn cut_greediest(&self, few: usize) -> usize {
        let mut places = self.places();
        let greediest = places.by_key.iter().max_by_key(|(_, held)| held.len());
        let Some((key, held)) = greediest.filter(|(_, held)| held.len() > few) else { return 0 };
        let key = key.clone();
        let (silent, others): (Vec<_>, Vec<_>) = held.iter().partition(|(_, place)| place.silent);
        let half = held.len().div_ceil(2);
        let numbers: Vec<_> =
            silent.into_iter().chain(others).map(|(number, _)| *number).take(half).collect();
        for number in numbers {
            if let Some(place) = places.leave(&key, number) {
                // Nobody listens when it is just leaving by itself.
                place.evict.send(()).ok();
            }
        }
        half
    }
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// Takes a place from whoever has most; the newcomer stays.
    fn evict_one(&mut self, newcomer: u64) {
        // Among those who have as many, it is the one who came first.
        let greediest = self
            .by_key
            .iter()
            .max_by_key(|(_, held)| (held.len(), std::cmp::Reverse(held.keys().next().copied())));
        let Some((key, held)) = greediest.map(|(key, held)| (key.clone(), held)) else { return };
        let mut others = held.iter().filter(|(number, _)| **number != newcomer);
        let oldest = others.clone().next();
        let Some(number) = others.find(|(_, place)| place.silent).or(oldest).map(|(number, _)| *number)
        else {
            return;
        };
        if let Some(place) = self.leave(&key, number) {
            // Nobody listens when it is just leaving by itself.
            place.evict.send(()).ok();
        }
    }
}

impl<K: Eq + Hash> Places<K> {
    fn leave(&mut self, key: &K, number: u64) -> Option<Place> {
        let held = self.by_key.get_mut(key)?;
        let place = held.remove(&number)?;
        if held.is_empty() {
            self.by_key.remove(key);
        }
        self.held -= 1;
        Some(place)
    }
}

impl<K: Eq + Hash> Guest<K> {
    /// It has said something: silent ones go before it.
    pub fn spoke(&self) {
        let mut places = self.places.places();
        let place = places.by_key.get_mut(&self.key).and_then(|held| held.get_mut(&self.number));
        if let Some(place) = place {
            place.silent = false;
        }
    }

    /// Resolves when the place went to another, and never otherwise. Can be dropped and called again.
    pub async fn evicted(&mut self) {
        if (&mut self.evicted).await.is_err() {
            // The places outlive their guests, so that nobody drops the other end unsent.
            std::future::pending().await
        }
    }
}

impl<K: Eq + Hash> Drop for Guest<K> {
    fn drop(&mut self) {
        self.places.places().leave(&self.key, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn lost(guest: &mut Guest<&'static str>) -> bool {
        guest.evicted().now_or_never().is_some()
    }

    #[test]
    fn a_flood_of_silent_ones_makes_room_for_itself() {
        let waiting = Waiting::new(10);
        let mut victim = waiting.enter("victim");
        let mut flood: Vec<_> = (0..1000).map(|_| waiting.enter("actor")).collect();
        assert!(!lost(&mut victim));
        assert_eq!(waiting.held(), 10);
        let stayed: Vec<_> = (0..1000).filter(|place| !lost(&mut flood[*place])).collect();
        assert_eq!(stayed, (991..1000).collect::<Vec<_>>(), "the oldest went");
    }

    #[test]
    fn whoever_comes_gets_a_place_from_who_has_most() {
        let waiting = Waiting::new(4);
        let mut held: Vec<_> = ["a", "b", "b", "b"].map(|key| waiting.enter(key)).into();
        let mut newcomer = waiting.enter("c");
        assert!(!lost(&mut newcomer));
        let gone: Vec<_> = held.iter_mut().map(lost).collect();
        assert_eq!(gone, [false, true, false, false]);
    }

    #[test]
    fn silent_ones_go_before_those_who_spoke() {
        let waiting = Waiting::new(3);
        let mut held: Vec<_> = (0..3).map(|_| waiting.enter("a")).collect();
        held[0].spoke();
        let second = waiting.enter("a");
        assert_eq!(held.iter_mut().map(lost).collect::<Vec<_>>(), [false, true, false]);
        second.spoke();
        held[2].spoke();
        let mut third = waiting.enter("a");
        assert!(lost(&mut held[0]), "all have spoken, so it is the oldest");
        assert!(!lost(&mut third));
    }

    #[test]
    fn many_sources_lose_the_oldest_first_and_the_newcomer_never() {
        let waiting = Waiting::new(2);
        let mut first = waiting.enter("a");
        let mut second = waiting.enter("b");
        let mut third = waiting.enter("c");
        assert!(lost(&mut first) && !lost(&mut second) && !lost(&mut third));
        let one = Waiting::new(0);
        let mut alone = one.enter("a");
        assert!(!lost(&mut alone));
        assert!(!lost(&mut one.enter("b")));
        assert!(lost(&mut alone));
    }

    #[test]
    fn whoever_has_most_loses_half_and_who_has_few_nothing() {
        let waiting = Waiting::new(usize::MAX);
        let mut few: Vec<_> = (0..8).map(|_| waiting.enter("few")).collect();
        let mut many: Vec<_> = (0..20).map(|_| waiting.enter("many")).collect();
        many[0].spoke();
        assert_eq!(waiting.cut_greediest(8), 10);
        assert!(!lost(&mut many[0]), "silent ones go first");
        assert!(many[1..11].iter_mut().all(lost));
        assert_eq!((waiting.cut_greediest(8), waiting.cut_greediest(8)), (5, 0));
        assert!(!few.iter_mut().any(lost));
        assert_eq!(waiting.held(), 13);
    }

    #[test]
    fn leaving_frees_the_place_and_nothing_is_remembered() {
        let waiting = Waiting::new(1);
        for _ in 0..3 {
            let mut guest = waiting.enter("a");
            assert!(!lost(&mut guest));
        }
        assert_eq!(waiting.held(), 0);
        assert!(waiting.places().by_key.is_empty());
    }
}
