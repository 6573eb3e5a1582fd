//! What a process has taken of the machine: memory and descriptors.

use anyhow::{Context as _, Result};

/// How much more memory than at first is still the same level: allocators keep what they had at the busiest moment.
const MEMORY_SLACK: u64 = 48 * 1024 * 1024;

/// How many more descriptors: a request or two that happen to be in flight.
const DESCRIPTOR_SLACK: usize = 24;

/// At one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Level {
    /// Of a running process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .context("no VmRSS")?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Self { memory: kilobytes.parse::<u64>()? * 1024, descriptors })
    }

    /// Whether this is not above `first`, but for what says nothing.
    #[must_use]
    pub const fn is_back_at(self, first: Self) -> bool {
        self.memory <= first.memory + MEMORY_SLACK && self.descriptors <= first.descriptors + DESCRIPTOR_SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaks_is_above_its_level() {
        let first = Level::of(std::process::id()).unwrap();
        assert!(first.memory > 0 && first.descriptors > 2);
        assert!(first.is_back_at(first));
        assert!(!Level { descriptors: first.descriptors + 100, ..first }.is_back_at(first));
        assert!(!Level { memory: first.memory + (100 << 20), ..first }.is_back_at(first));
    }
}
