//! Lets valgrind count the instructions of each piece, and compares the counts with those of the last time.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use crate::pieces::Piece;

/// How often a piece runs; and twice as often, for the difference.
const TIMES: u64 = 1000;
/// The change that is pointed out, in percent.
const NOTABLE: f64 = 3.0;

/// Counts all pieces, prints them beside the last counts, and writes them to `file`.
///
/// # Errors
/// When valgrind is not here, or a piece fails.
pub fn all(file: &Path) -> Result<()> {
    let last = last_counts(file)?;
    let mut out = std::io::stdout();
    let mut text = String::new();
    writeln!(out, "{:<24} {:>12} {:>12}", "piece", "instructions", "last")?;
    for piece in Piece::value_variants() {
        let name = piece.name();
        let count = (instructions(&name, 2 * TIMES)? - instructions(&name, TIMES)?) / TIMES;
        let before = last.get(&name).copied();
        let (before, change) = match before {
            Some(before) => (before.to_string(), (count as f64 / before as f64 - 1.0) * 100.0),
            None => ("–".to_owned(), 0.0),
        };
        let remark = if change.abs() > NOTABLE { format!("  {change:+.1} %") } else { String::new() };
        writeln!(out, "{name:<24} {count:>12} {before:>12}{remark}")?;
        text.push_str(&format!("{name} {count}\n"));
    }
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn last_counts(file: &Path) -> Result<BTreeMap<String, u64>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    text.lines()
        .map(|line| {
            let (name, count) = line.split_once(' ').with_context(|| format!("not a count: {line}"))?;
            Ok((name.to_owned(), count.parse().with_context(|| format!("not a count: {line}"))?))
        })
        .collect()
}

/// All instructions of the main thread of one run. Other threads, as that of the access log, work when they are woken:
/// their counts are not the same twice.
fn instructions(piece: &str, times: u64) -> Result<u64> {
    let dir = std::env::temp_dir().join(format!("svidecar-pieces-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", dir.join("out").display()))
        .arg(std::env::current_exe()?)
        .args(["run", piece, &times.to_string()])
        .output()
        .context("cannot run valgrind (Debian's package `valgrind`)")?;
    ensure!(output.status.success(), "{piece}: {}", String::from_utf8_lossy(&output.stderr));
    let profile = std::fs::read_to_string(dir.join("out-01"))?;
    std::fs::remove_dir_all(&dir)?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).with_context(|| format!("{piece}: no total"))
}
