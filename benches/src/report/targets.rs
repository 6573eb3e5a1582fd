//! What svidecar is to reach, and whether it did in the last results.

use super::table::aligned;
use crate::results::{Results, Table};
use crate::workload::Workload;

const OURS: &str = "svidecar";
const HAPROXY: &[&str] = &["haproxy"];
const ANY_HAPROXY: &[&str] = &["haproxy", "haproxy-h2"];

/// One figure that is not to be exceeded.
struct Target {
    workload: Workload,
    /// What of whom.
    row: &'static str,
    column: usize,
    /// The most that it may be: a number, or a multiple of the least of these rows.
    most: f64,
    of: &'static [&'static str],
}

const fn target(workload: Workload, most: f64, of: &'static [&'static str]) -> Target {
    Target { workload, row: OURS, column: 0, most, of }
}

const TARGETS: [Target; 12] = [
    target(Workload::H1, 0.5, HAPROXY),
    target(Workload::H1, 1.0, ANY_HAPROXY),
    target(Workload::H1one, 0.7, HAPROXY),
    target(Workload::H1one, 1.0, ANY_HAPROXY),
    target(Workload::H2, 1.0, ANY_HAPROXY),
    target(Workload::Bulk, 0.5, HAPROXY),
    target(Workload::Conn, 0.14, HAPROXY),
    target(Workload::Idle, 12.0, &[]),
    target(Workload::Start, 40.0, &[]),
    Target { column: 1, ..target(Workload::Start, 12.0, &[]) },
    Target { row: "svidecar, 10000 rules", ..target(Workload::Rules, 1.05, &["svidecar, 10 rules"]) },
    // Fewer than ten.
    target(Workload::Wakeups, 9.0, &[]),
];

/// All targets beside what was measured.
pub fn table(results: &Results) -> String {
    let mut lines = vec![["", "at most", "measured", ""].map(str::to_owned).to_vec()];
    lines.extend(TARGETS.iter().map(|target| line(target, results.tables.get(&target.workload))));
    aligned(&lines)
}

fn line(target: &Target, table: Option<&Table>) -> Vec<String> {
    let column = table.and_then(|table| table.columns.get(target.column));
    let name = column.map_or("", |column| column.name.as_str());
    let of = match target.of {
        [] => String::new(),
        [one] => format!(" × {one}"),
        _ => " × best HAProxy".to_owned(),
    };
    let (measured, verdict) = match table.and_then(|table| measured(target, table)) {
        Some(measured) => {
            (format!("{measured:.2}"), if measured <= target.most { "met" } else { "**not met**" })
        }
        None => ("–".to_owned(), "not measured"),
    };
    vec![
        format!("`{}`: {name}", target.workload.name()),
        format!("{}{of}", target.most),
        measured,
        verdict.to_owned(),
    ]
}

fn measured(target: &Target, table: &Table) -> Option<f64> {
    let figure = |label: &&str| table.row(label)?.median(target.column);
    let ours = figure(&target.row)?;
    if target.of.is_empty() {
        return Some(ours);
    }
    Some(ours / target.of.iter().filter_map(figure).min_by(f64::total_cmp)?)
}
