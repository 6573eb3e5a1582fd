//! What the kernel knows of a process and its descendants: CPU time, memory, context switches. Asks, never changes.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// A process and all its descendants, as they are now.
pub fn family(pid: u32) -> Result<Vec<u32>> {
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(&member) = family.get(at) {
        for task in fs::read_dir(format!("/proc/{member}/task"))? {
            let children = fs::read_to_string(task?.path().join("children"))?;
            family.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    Ok(family)
}

/// The CPU time that the processes have used, to the nanosecond, with all their threads that live or have ended.
pub fn cpu_time(pids: &[u32]) -> Result<Duration> {
    pids.iter().try_fold(Duration::ZERO, |sum, &pid| {
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?));
        let time = clock.and_then(|clock| clock.now()).with_context(|| format!("process {pid} has ended"))?;
        Ok(sum + Duration::from(time))
    })
}

/// The proportional set size in KiB: the processes' own memory and their share of what they share.
pub fn pss_kib(pids: &[u32]) -> Result<u64> {
    pids.iter().try_fold(0, |sum, pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().context("Pss is not a number")?;
        Ok(sum + kib)
    })
}

/// How often the processes' threads were switched off a CPU: because they waited, or because others waited for it.
pub fn context_switches(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            for line in status.lines().filter(|line| line.contains("voluntary_ctxt_switches:")) {
                sum += line.rsplit(':').next().unwrap_or_default().trim().parse::<u64>()?;
            }
        }
    }
    Ok(sum)
}
