//! A budget that many spend, none of whom can take the shares of the others.
//!
//! Owns the rule: one may have more while what it has is at most eight times what is free. Whoever is alone has nearly
//! all, the more there are the less each has, and something is free for the next. (The rule is that of packet
//! buffers that many ports share: A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds", 1998.)
//! While memory is short, one gets more only up to an eighth of what is free, whatever is counted. It must never wait, and never
//! take back what it gave.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::memory;

/// How many times what is free one may have; while memory is short, the part of it.
pub const TIMES_FREE: usize = 8;

/// A budget of so many units that is shared by keys. Cheap to clone: clones are the same budget.
pub struct Shares<K>(Arc<Mutex<Budget<K>>>);

struct Budget<K> {
    size: usize,
    taken: usize,
    of: HashMap<K, usize>,
}

/// Units of one key; given back when dropped.
pub struct Share<K: Eq + Hash> {
    budget: Shares<K>,
    key: K,
    units: usize,
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Shares<K> {
    /// A budget of `size` units.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self(Arc::new(Mutex::new(Budget { size, taken: 0, of: HashMap::new() })))
    }

    /// Makes it larger or smaller. What was given stays given, over a smaller budget as well.
    pub fn resize(&self, size: usize) {
        self.budget().size = size;
    }

    /// Units that are taken, by all.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.budget().taken
    }

    /// Units that `key` has.
    #[must_use]
    pub fn of(&self, key: &K) -> usize {
        self.budget().of.get(key).copied().unwrap_or_default()
    }

    fn budget(&self) -> MutexGuard<'_, Budget<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, key: &K, units: usize) {
        let mut budget = self.budget();
        budget.taken = budget.taken.saturating_sub(units);
        if let Some(own) = budget.of.get_mut(key) {
            *own = own.saturating_sub(units);
            if *own == 0 {
                budget.of.remove(key);
            }
        }
    }
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// `units` more for `key`, if that is within its share now.
    #[must_use]
    pub fn take(&self, key: K, units: usize) -> Option<Share<K>> {
        self.take_at_most(key, units, usize::MAX)
    }

    /// As [`Self::take`], for a key that may have no more than `most` in any case.
    #[must_use]
    pub fn take_at_most(&self, key: K, units: usize, most: usize) -> Option<Share<K>> {
        let mut budget = self.budget();
        let free = budget.size.saturating_sub(budget.taken);
        let own = budget.of.get(&key).copied().unwrap_or_default();
        let wanted = own.saturating_add(units);
        if units > free || wanted > may_have(free, units, memory::is_short()) || wanted > most {
            return None;
        }
        budget.taken = budget.taken.saturating_add(units);
        budget.of.insert(key.clone(), wanted);
        drop(budget);
        Some(Share { budget: self.clone(), key, units })
    }
}

/// What one may have of a budget of which so much is free. Who has nothing gets what it asks for in any case.
fn may_have(free: usize, units: usize, is_short: bool) -> usize {
    if is_short { units.max(free / TIMES_FREE) } else { free.saturating_mul(TIMES_FREE) }
}

impl<K: Eq + Hash> Share<K> {
    /// Whose it is.
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// Units in it.
    #[must_use]
    pub const fn units(&self) -> usize {
        self.units
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.budget.give_back(&self.key, self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &Shares<&'static str>, key: &'static str) -> Vec<Share<&'static str>> {
        std::iter::from_fn(|| shares.take(key, 1)).collect()
    }

    #[test]
    fn whoever_is_alone_has_nearly_all_and_leaves_something() {
        let shares = Shares::new(900);
        let greedy = take_all(&shares, "greedy");
        assert_eq!(greedy.len(), 800);
        assert_eq!(take_all(&shares, "next").len(), 89);
        assert!(shares.take("last", 1).is_some());
    }

    #[test]
    fn while_memory_is_short_one_has_little_and_a_newcomer_something() {
        assert_eq!(may_have(900, 1, false), 7200);
        assert_eq!(may_have(900, 1, true), 112);
        assert_eq!(may_have(4, 1, true), 1);
        assert_eq!(may_have(100, 64, true), 64);
    }

    #[test]
    fn a_small_budget_can_be_used_whole() {
        let shares = Shares::new(8);
        assert_eq!(take_all(&shares, "only").len(), 8);
    }

    #[test]
    fn many_greedy_ones_leave_something_for_the_next() {
        let shares = Shares::new(1000);
        let keys = ["a", "b", "c", "d", "e", "f", "g"];
        // In turns, as they would come; not one after the other.
        let mut held = Vec::new();
        loop {
            let before = held.len();
            held.extend(keys.iter().filter_map(|key| shares.take(*key, 1)));
            if held.len() == before {
                break;
            }
        }
        for key in keys {
            assert!((140..=141).contains(&shares.of(&key)), "{key} has {}", shares.of(&key));
        }
        assert!(shares.take("newcomer", 1).is_some());
    }

    #[test]
    fn who_has_shown_nothing_has_little() {
        let shares = Shares::new(1000);
        let held: Vec<_> = std::iter::from_fn(|| shares.take_at_most("stranger", 1, 8)).collect();
        assert_eq!(held.len(), 8);
        assert!(shares.take("stranger", 1).is_some(), "by now it is known");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_nothing_is_remembered() {
        let shares = Shares::new(10);
        let share = shares.take("a", 7).unwrap();
        assert_eq!((*share.key(), share.units(), shares.of(&"a"), shares.taken()), ("a", 7, 7, 7));
        assert!(shares.take("b", 4).is_none());
        drop(share);
        assert_eq!(shares.taken(), 0);
        assert!(shares.budget().of.is_empty());
        assert!(shares.take("b", 4).is_some());
    }

    #[test]
    fn a_smaller_budget_takes_nothing_back() {
        let shares = Shares::new(100);
        let held = take_all(&shares, "a");
        shares.resize(10);
        assert!(shares.take("b", 1).is_none());
        drop(held);
        assert!(shares.take("b", 1).is_some());
    }
}
