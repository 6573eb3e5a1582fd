//! Tables in Markdown that also read well as they are, on a terminal.

use std::fmt::Write as _;

use crate::results::Table;
use crate::workload::Workload;

/// The heading, the table and the circumstances of one workload.
pub fn section(workload: Workload, table: &Table) -> String {
    let mut lines = vec![header(table)];
    lines.extend(rows(table));
    if !workload.has_exchanges() {
        for line in &mut lines {
            line.pop();
        }
    }
    format!(
        "### {}\n\n{}.\n\n{}\n{}\n",
        workload.name(),
        workload.about(),
        aligned(&lines),
        table.circumstances
    )
}

fn header(table: &Table) -> Vec<String> {
    let mut names = table.columns.iter().map(|column| column.name.clone());
    let mut cells = vec![String::new(), names.next().unwrap_or_default()];
    if table.best_haproxy().is_some() {
        cells.extend(["× haproxy".to_owned(), "× best HAProxy".to_owned()]);
    }
    cells.extend(names);
    cells.push("errors".to_owned());
    cells
}

fn rows(table: &Table) -> Vec<Vec<String>> {
    let best = table.best_haproxy();
    let haproxy = table.figure("haproxy");
    let ratio = |figure: Option<f64>, to: Option<f64>| match (figure, to) {
        (Some(figure), Some(to)) if figure > 0.0 => format!("{:.2}", figure / to),
        _ => "–".to_owned(),
    };
    let rows = table.rows.iter().map(|row| {
        let mut cells = vec![row.label.clone()];
        for (at, column) in table.columns.iter().enumerate() {
            let digits = column.digits;
            cells.push(match (row.median(at), row.spread(at)) {
                (Some(median), Some((least, most))) if at == 0 && least < most => {
                    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
                }
                (Some(median), _) => format!("{median:.digits$}"),
                _ => "–".to_owned(),
            });
            if at == 0 && best.is_some() {
                cells.push(ratio(row.median(0), haproxy));
                cells.push(ratio(row.median(0), best));
            }
        }
        cells.push(row.errors.to_string());
        cells
    });
    rows.collect()
}

/// A table in Markdown that also reads well as it is.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(at))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a string does not fail.
            let _ =
                if at == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if number == 0 {
            for (at, width) in widths.iter().enumerate() {
                let _ = write!(text, "|{}{}", "-".repeat(width + 1), if at == 0 { "-" } else { ":" });
            }
            text.push_str("|\n");
        }
    }
    text
}
