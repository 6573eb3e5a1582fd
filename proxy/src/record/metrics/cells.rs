//! The numbers of one worker.
//!
//! Only their worker writes them, so that adding is a load and a store that no other processor waits for; whoever scrapes
//! reads them at any time. No two workers' numbers share a line of cache.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper bounds in microseconds: from a local cache to a slow report.
pub(super) const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// A number that one thread counts and others read.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    /// Adds, for the one thread that does.
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number alone.
// Two lines of cache, because processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(super) struct AuditCells {
    pub(super) matches: Tally,
}

/// What is counted under all labels.
#[repr(align(128))]
#[derive(Debug)]
pub(super) struct Series {
    pub(super) count: Tally,
    pub(super) listener: Arc<ListenerCells>,
}

/// What is counted per listener.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(super) struct ListenerCells {
    pub(super) durations: Durations,
    pub(super) received: Tally,
    pub(super) sent: Tally,
}

/// A histogram.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// Observations up to each bound, without those up to the bound before.
    buckets: [Tally; BOUNDS.len()],
    /// Observations over the last bound.
    over: Tally,
    /// All of them together, in microseconds.
    sum: Tally,
}

impl Durations {
    /// Counts one duration.
    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().zip(&self.buckets).find(|(bound, _)| micros <= **bound);
        bucket.map_or(&self.over, |(_, bucket)| bucket).add(1);
        self.sum.add(micros);
    }
}

/// The numbers of a listener, of all workers together.
#[derive(Default)]
pub(super) struct ListenerSums {
    pub(super) buckets: [u64; BOUNDS.len()],
    pub(super) over: u64,
    /// In microseconds.
    pub(super) sum: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl ListenerSums {
    pub(super) fn of(workers: &[Arc<ListenerCells>]) -> Self {
        let total = |cell: fn(&ListenerCells) -> &Tally| workers.iter().map(|cells| cell(cells).get()).sum();
        Self {
            buckets: array::from_fn(|at| {
                let bucket =
                    |cells: &Arc<ListenerCells>| cells.durations.buckets.get(at).map_or(0, Tally::get);
                workers.iter().map(bucket).sum()
            }),
            over: total(|cells| &cells.durations.over),
            sum: total(|cells| &cells.durations.sum),
            received: total(|cells| &cells.received),
            sent: total(|cells| &cells.sent),
        }
    }
}
