//! A set of measured times.

use std::time::Duration;

/// Times in the order in which they were measured.
#[derive(Default)]
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// One row of a table: the name, how many, and p50, p99 and the greatest in milliseconds.
    pub fn row(&self, name: &str) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // Nearest rank: the smallest time that this many of a hundred do not exceed.
        let percentile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
        };
        format!(
            "| {name} | {} | {:.1} ms | {:.1} ms | {:.1} ms |\n",
            sorted.len(),
            percentile(50),
            percentile(99),
            percentile(100)
        )
    }
}
