//! Where results go: the terminal; and `benches/results.json`, from which the README's tables and charts are made.

mod chart;
mod table;
mod targets;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

pub use self::table::section;
use crate::results::{Results, Table};
use crate::workload::Workload;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results.json");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts");
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

/// Takes a table into the results, in place of its last one, and makes README and charts anew. What the page says at its
/// head is about the last whole race; a part of one says itself where else it was measured.
pub fn keep(
    whole: bool,
    machine: &str,
    subjects: &[(String, String)],
    workload: Workload,
    mut table: Table,
) -> Result<()> {
    let mut results = Results::read(Path::new(RESULTS))?;
    if whole {
        results.machine = machine.to_owned();
        results.subjects.extend(subjects.iter().cloned());
    } else {
        for (name, words) in subjects {
            results.subjects.entry(name.clone()).or_insert_with(|| words.clone());
        }
        if results.machine != machine {
            table.circumstances = format!("{} On {machine}", table.circumstances);
        }
    }
    results.tables.insert(workload, table);
    results.write(Path::new(RESULTS))?;

    let mut text = format!("{}\n\n", results.machine);
    for (name, words) in &results.subjects {
        text.push_str(&format!("- {name}: {words}\n"));
    }
    text.push_str(&format!("\n### Targets\n\n{}\n", targets::table(&results)));
    std::fs::create_dir_all(CHARTS)?;
    for (workload, table) in &results.tables {
        let name = workload.name();
        std::fs::write(format!("{CHARTS}/{name}.svg"), chart::bars(*workload, table))?;
        text.push_str(&section(*workload, table));
        text.push_str(&format!("\n![{name}](charts/{name}.svg)\n\n"));
    }
    let readme = std::fs::read_to_string(README).context("cannot read benches/README.md")?;
    let (head, rest) = readme.split_once(BEGIN).context("benches/README.md has lost its marks")?;
    let (_, tail) = rest.split_once(END).context("benches/README.md has lost its marks")?;
    std::fs::write(README, format!("{head}{BEGIN}\n{text}{END}{tail}"))
        .context("cannot write benches/README.md")
}
