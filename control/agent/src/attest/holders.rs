//! Which processes hold a socket.
//!
//! Owns the search of `/proc`. It sees what the agent's user may see: all, for root.

use std::{fs, path::Path};

/// All processes that hold the socket `inode`, two at most: more do not matter. Reads all of `/proc`.
pub fn of(inode: u64) -> Vec<i32> {
    let target = format!("socket:[{inode}]");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| holds(*pid, &target))
        .take(2)
        .collect()
}

fn holds(pid: i32, target: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|link| link == Path::new(target))
}
