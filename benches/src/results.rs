//! Results: per workload a table whose cells hold one value for each round. Kept in `benches/results.json`, from
//! which the README and the charts are made, so that a part of the race replaces only its own tables.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// All that was measured.
#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    /// Where it was measured, in words.
    pub machine: String,
    /// Who took part, and what each is, in words.
    pub subjects: BTreeMap<String, String>,
    /// By workload.
    pub tables: BTreeMap<Workload, Table>,
}

/// One workload.
#[derive(Clone, Serialize, Deserialize)]
pub struct Table {
    /// Where and when, in words.
    pub circumstances: String,
    /// What the values are; the first is the figure that counts.
    pub columns: Vec<Column>,
    /// One per subject.
    pub rows: Vec<Row>,
}

/// What the values of a column are.
#[derive(Clone, Serialize, Deserialize)]
pub struct Column {
    /// With the unit.
    pub name: String,
    /// Digits after the point.
    pub digits: usize,
}

/// What was measured of one subject.
#[derive(Clone, Serialize, Deserialize)]
pub struct Row {
    /// Who.
    pub label: String,
    /// For each column, one value for each round.
    pub values: Vec<Vec<f64>>,
    /// Exchanges that failed, in all rounds.
    pub errors: u64,
}

impl Column {
    /// A column.
    pub fn new(name: &str, digits: usize) -> Self {
        Self { name: name.to_owned(), digits }
    }
}

impl Row {
    /// No round yet.
    pub fn new(label: String, columns: usize) -> Self {
        Self { label, values: vec![Vec::new(); columns], errors: 0 }
    }

    /// Adds one round: a value for each column.
    pub fn add(&mut self, values: &[f64]) {
        for (column, value) in self.values.iter_mut().zip(values) {
            column.push(*value);
        }
    }

    /// Drops the rounds in which a column has no value (NaN).
    pub fn forget_missing(&mut self) {
        for column in &mut self.values {
            column.retain(|value| !value.is_nan());
        }
    }

    /// The median of the rounds.
    pub fn median(&self, column: usize) -> Option<f64> {
        let mut sorted = self.values.get(column)?.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len().checked_sub(1)?) / 2)?;
        Some(f64::midpoint(lower, upper))
    }

    /// Nearest rank in the first column: the least value that this many of a hundred do not exceed.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.values.first()?.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    /// The least and the greatest of the rounds.
    pub fn spread(&self, column: usize) -> Option<(f64, f64)> {
        let values = self.values.get(column)?;
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        Some((least, values.iter().copied().max_by(f64::total_cmp)?))
    }
}

impl Table {
    /// The row of a subject.
    pub fn row(&self, label: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.label == label)
    }

    /// The figure that counts, for one subject.
    pub fn figure(&self, label: &str) -> Option<f64> {
        self.row(label)?.median(0)
    }

    /// The least figure that HAProxy reached in any of its forms.
    pub fn best_haproxy(&self) -> Option<f64> {
        ["haproxy", "haproxy-h2"].iter().filter_map(|label| self.figure(label)).min_by(f64::total_cmp)
    }
}

impl Results {
    /// What was written last; nothing, if there is none.
    pub fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes all of it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Row {
        let mut row = Row::new("one".to_owned(), 1);
        values.iter().for_each(|value| row.add(&[*value]));
        row
    }

    #[test]
    fn the_median_of_an_even_number_of_rounds_is_between_the_two_in_the_middle() {
        assert_eq!(row(&[9.0, 1.0, 3.0]).median(0), Some(3.0));
        assert_eq!(row(&[9.0, 1.0, 3.0, 5.0]).median(0), Some(4.0));
        assert_eq!(row(&[]).median(0), None);
    }

    #[test]
    fn spread_and_percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let row = row(&values);
        assert_eq!(row.spread(0), Some((1.0, 200.0)));
        assert_eq!(
            [50, 99, 100].map(|percent| row.percentile(percent)),
            [Some(100.0), Some(198.0), Some(200.0)]
        );
    }

    #[test]
    fn a_missing_value_is_no_value() {
        let mut row = row(&[2.0, f64::NAN]);
        row.forget_missing();
        assert_eq!((row.median(0), row.spread(0)), (Some(2.0), Some((2.0, 2.0))));
    }
}
