//! Workloads in which the load calls: each subject has its turn in each round.

use anyhow::Result;

use super::lineup::Race;
use super::runner::{Runner, finish};
use crate::load::Measured;
use crate::report;
use crate::results::{Column, Row};
use crate::workload::Workload;

impl Race {
    /// Runs one such workload.
    pub(super) async fn exchanges(&self, workload: Workload) -> Result<(Vec<Column>, Vec<Row>)> {
        let columns = columns(workload);
        let (mut app, address) = self.course.app(workload.wire()).await?;
        let mut runners = self.start_all(workload, columns.len(), address).await?;
        for round in 1..=self.rounds {
            for Runner { pair, row, exchanges, .. } in &mut runners {
                report::progress(&format!(
                    "{}, round {round} of {}: {}",
                    workload.name(),
                    self.rounds,
                    row.label
                ))?;
                let measured = self.course.load(workload, pair.entry, self.seconds, &pair.pids()?).await?;
                if let Some(error) = &measured.first_error {
                    report::say(&format!("{}: {} errors, the first: {error}", row.label, measured.errors))?;
                }
                row.errors += measured.errors;
                *exchanges += measured.operations;
                row.add(&values(workload, &measured));
            }
        }
        let rows = finish(runners).await?;
        app.kill().await?;
        Ok((columns, rows))
    }
}

fn columns(workload: Workload) -> Vec<Column> {
    let cpu = Column::new("CPU µs/request", 1);
    let (p50, p99) = (Column::new("p50 µs", 0), Column::new("p99 µs", 0));
    match workload {
        Workload::Bulk => vec![Column::new("CPU s/GB", 3), Column::new("GB/s", 2)],
        Workload::Upload => vec![Column::new("CPU s/GB", 3), Column::new("GB/s", 2), p50, p99],
        Workload::Conn => {
            vec![Column::new("CPU µs/connection", 0), Column::new("connections/s", 0), p50, p99]
        }
        Workload::H1one => vec![p50, p99, cpu, Column::new("requests/s", 0)],
        _ => vec![cpu, Column::new("requests/s", 0), p50, p99],
    }
}

/// The values of one turn, in the order of the columns.
fn values(workload: Workload, measured: &Measured) -> Vec<f64> {
    let gigabytes = measured.bytes as f64 / 1e9;
    // Without sidecars there is none.
    let cpu_seconds = if measured.cpu_seconds > 0.0 { measured.cpu_seconds } else { f64::NAN };
    let cpu = cpu_seconds * 1e6 / measured.operations as f64;
    let rate = measured.operations as f64 / measured.seconds;
    let (p50, p99) = (measured.p50_us, measured.p99_us);
    match workload {
        Workload::Bulk => vec![cpu_seconds / gigabytes, gigabytes / measured.seconds],
        Workload::Upload => vec![cpu_seconds / gigabytes, gigabytes / measured.seconds, p50, p99],
        Workload::H1one => vec![p50, p99, cpu, rate],
        _ => vec![cpu, rate, p50, p99],
    }
}
