//! Keeps a message that repeats from filling the log: a workload without an entry asks again every second.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Subjects that are remembered; with more, the log says more.
const MAX_SUBJECTS: usize = 1024;

/// Says yes to a subject once per period. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct OncePer<K> {
    period: Duration,
    said: Arc<Mutex<HashMap<K, Instant>>>,
}

impl<K: Eq + Hash> OncePer<K> {
    /// Says yes once per `period`.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, said: Arc::default() }
    }

    /// Whether it is time to say something about `subject` at `now`.
    pub fn allows(&self, subject: K, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= MAX_SUBJECTS {
            said.retain(|_, at| now.duration_since(*at) < self.period);
            if said.len() >= MAX_SUBJECTS {
                said.clear();
            }
        }
        match said.get_mut(&subject) {
            Some(at) if now.duration_since(*at) < self.period => false,
            Some(at) => {
                *at = now;
                true
            }
            None => {
                said.insert(subject, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_said_once_per_period() {
        let once = OncePer::new(Duration::from_secs(60));
        let start = Instant::now();
        assert!(once.allows("a", start));
        assert!(once.allows("b", start));
        assert!(!once.allows("a", start + Duration::from_secs(59)));
        assert!(once.allows("a", start + Duration::from_secs(60)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let once = OncePer::new(Duration::from_secs(60));
        let start = Instant::now();
        for subject in 0..3 * MAX_SUBJECTS {
            assert!(once.allows(subject, start));
        }
        assert!(once.said.lock().unwrap().len() <= MAX_SUBJECTS);
    }
}
