//! Where the results go: the terminal, and the part of `benches/README.md` between two marks.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, Result};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- results: written by make bench -->\n";
const END: &str = "<!-- end of results -->";

/// Prints the results and puts them in place of the last ones.
pub fn write(results: &str) -> Result<()> {
    let results = format!("{}\n{results}", machine()?);
    writeln!(std::io::stdout().lock(), "{results}")?;
    let text = fs::read_to_string(README).context("cannot read benches/README.md")?;
    let (head, rest) = text.split_once(BEGIN).context("benches/README.md has lost its marks")?;
    let (_, tail) = rest.split_once(END).context("benches/README.md has lost its marks")?;
    fs::write(README, format!("{head}{BEGIN}\n{results}\n{END}{tail}"))
        .context("cannot write benches/README.md")
}

/// What it was measured on.
fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores of {model}, Linux {}.\n", kernel.trim()))
}
