//! The machine that it is measured on, and how busy it is with other things.

use std::fs;

use anyhow::{Context as _, Result};

use crate::report;

/// Cores, processor, kernel.
pub fn describe() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores of {model}, Linux {}.", kernel.trim()))
}

/// How many threads wanted to run, on average over the last minute.
pub fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().context("/proc/loadavg is empty")?.to_owned())
}

/// Says so, if others use the machine: then only CPU time for each operation can be trusted.
pub fn warn_if_busy() -> Result<()> {
    let load: f64 = load_average()?.parse()?;
    if load > 0.5 {
        report::say(&format!(
            "The machine is busy (load average {load}): trust the CPU time for each operation, and the ratios; \
             requests/s, p50 and p99 are worse than they are on a quiet machine."
        ))?;
    }
    Ok(())
}
