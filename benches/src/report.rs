//! Where results go: the terminal; and `benches/results.json`, from which the README's tables and charts are made.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::results::{Results, Table};
use crate::workload::Workload;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results.json");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- results: written by make bench -->\n";
const END: &str = "<!-- end of results -->";

/// One paragraph on standard output.
pub fn say(text: &str) -> Result<()> {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        write!(err, "\r\x1b[K")?;
    }
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// What is going on, on a terminal, in place of what was going on before.
pub fn progress(text: &str) -> Result<()> {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        write!(err, "\r\x1b[K{text}")?;
        err.flush()?;
    }
    Ok(())
}

/// Takes a table into the results, in place of its last one, and makes the README anew.
pub fn keep(workload: Workload, table: Table) -> Result<()> {
    let mut results = Results::read(Path::new(RESULTS))?;
    results.tables.insert(workload, table);
    results.write(Path::new(RESULTS))?;
    let sections: Vec<String> =
        results.tables.iter().map(|(workload, table)| section(*workload, table)).collect();
    let text = std::fs::read_to_string(README).context("cannot read benches/README.md")?;
    let (head, rest) = text.split_once(BEGIN).context("benches/README.md has lost its marks")?;
    let (_, tail) = rest.split_once(END).context("benches/README.md has lost its marks")?;
    std::fs::write(README, format!("{head}{BEGIN}\n{}\n{END}{tail}", sections.join("\n")))
        .context("cannot write benches/README.md")
}

/// The heading, the table and the circumstances of one workload.
pub fn section(workload: Workload, table: &Table) -> String {
    let mut lines = vec![header(table)];
    lines.extend(rows(table));
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
                (Some(median), Some((least, most))) if at == 0 => {
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
fn aligned(lines: &[Vec<String>]) -> String {
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
