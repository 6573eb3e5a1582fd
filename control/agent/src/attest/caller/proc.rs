//! What `/proc` says of one process.
//!
//! Owns the forms of proc(5). It must never believe that a PID still means the process that it meant before.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::error::AttestError;

/// `/proc/PID/status` and `stat` are a few KiB; more is not what the kernel writes.
const MAX_FILE: u64 = 64 * 1024;

/// The facts of `/proc/PID/status` that make selectors. Effective IDs, as the kernel checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Effective user ID.
    pub uid: u32,
    /// Effective group ID.
    pub gid: u32,
    /// Supplementary group IDs.
    pub groups: Vec<u32>,
    /// Whether real, effective and saved IDs are the same: those of a set-user-ID or set-group-ID program are not.
    pub own_ids: bool,
}

/// A file, whatever its names: device and inode.
pub type FileId = (u64, u64);

/// `/proc/PID/NAME`.
pub fn file(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

/// Reads `/proc/PID/NAME`, which is refused if it has more than `limit` bytes.
pub fn read(pid: i32, name: &'static str, limit: u64) -> Result<String, AttestError> {
    read_bounded(file(pid, name), limit).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => AttestError::Gone { pid },
        _ if source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            AttestError::Gone { pid }
        }
        _ => AttestError::Io { pid, what: "read /proc", source },
    })
}

/// The file's text. A process may put any bytes in its own name, so what is not UTF-8 is replaced.
pub fn read_bounded(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// When the process began.
pub fn start_time(pid: i32) -> Result<u64, AttestError> {
    let text = read(pid, "stat", MAX_FILE)?;
    parse_start_time(&text).ok_or(AttestError::Unreadable { pid, file: "stat" })
}

/// Its IDs and groups.
pub fn status(pid: i32) -> Result<ProcessStatus, AttestError> {
    let text = read(pid, "status", MAX_FILE)?;
    parse_status(&text).ok_or(AttestError::Unreadable { pid, file: "status" })
}

/// The program that it runs; none where the kernel does not let us see it, and then there are no selectors of it either.
pub fn executable(pid: i32) -> Option<FileId> {
    let metadata = fs::metadata(file(pid, "exe")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Field 22 of `/proc/PID/stat` (proc(5)), in clock ticks since boot. The second field is the process's
/// name in parentheses and may itself hold spaces and parentheses: fields are counted from its last `)`.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn parse_status(text: &str) -> Option<ProcessStatus> {
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    // Real, effective, saved, file system.
    let ids = |key: &str| -> Option<[u32; 3]> {
        let mut ids = line(key)?.split_ascii_whitespace().map(str::parse::<u32>);
        Some([ids.next()?.ok()?, ids.next()?.ok()?, ids.next()?.ok()?])
    };
    let groups = line("Groups:")?.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let (uids, gids) = (ids("Uid:")?, ids("Gid:")?);
    let all_same = |[real, effective, saved]: [u32; 3]| real == effective && effective == saved;
    let [_, uid, _] = uids;
    let [_, gid, _] = gids;
    Some(ProcessStatus { uid, gid, groups, own_ids: all_same(uids) && all_same(gids) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_counted_from_the_last_parenthesis() {
        let stat = "7 (a) b) (c) R 1 7 7 0 -1 4194304 1 0 1 0 0 0 0 0 20 0 1 0 4242 1 2 3";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time("7 (x"), None);
    }

    #[test]
    fn status_gives_effective_ids_and_groups() {
        let text = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t10 20 \nNStgid:\t1\n";
        let status = parse_status(text).unwrap();
        assert_eq!(status, ProcessStatus { uid: 2, gid: 6, groups: vec![10, 20], own_ids: false });
        assert_eq!(parse_status("Uid:\t1\n"), None);
        let own = parse_status("Uid:\t1\t1\t1\t1\nGid:\t2\t2\t2\t2\nGroups:\t\n").unwrap();
        assert!(own.own_ids);
    }
}
