//! What the callers count, and what becomes of it.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that is told from longer ones: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Counts of all callers.
pub struct Tally {
    /// Nanoseconds from request to whole answer.
    times: Histogram<u64>,
    bytes: u64,
    errors: u64,
    first_error: Option<String>,
}

/// What one run of the load measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Exchanges that were completed.
    pub operations: u64,
    /// Bytes of bodies or of a stream, in the direction that matters.
    pub bytes: u64,
    /// Exchanges or connections that failed.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
    /// How long it was counted.
    pub seconds: f64,
    /// CPU seconds of the watched processes in this time.
    pub cpu_seconds: f64,
    /// Median time of an exchange in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Result<Self> {
        Ok(Self { times: Histogram::new_with_bounds(1, LONGEST, 3)?, bytes: 0, errors: 0, first_error: None })
    }

    /// Forgets the warm-up; but an error in it remains an error.
    pub fn clear(&mut self) {
        self.times.reset();
        self.bytes = 0;
    }

    /// One exchange is complete.
    pub fn done(&mut self, took: Duration, bytes: usize) {
        self.times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.received(bytes);
    }

    /// Bytes came that complete no exchange.
    pub fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Something failed.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    /// The result.
    pub fn measured(&self, elapsed: Duration, cpu: Duration) -> Measured {
        let micros = |quantile| self.times.value_at_quantile(quantile) as f64 / 1e3;
        Measured {
            operations: self.times.len(),
            bytes: self.bytes,
            errors: self.errors,
            first_error: self.first_error.clone(),
            seconds: elapsed.as_secs_f64(),
            cpu_seconds: cpu.as_secs_f64(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
        }
    }
}
