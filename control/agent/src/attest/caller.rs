//! A calling process, pinned.
//!
//! Owns the guarantee that a PID means the same process from accept to decision: a pidfd is opened right
//! after the kernel named the peer, and it and the start time are checked again after `/proc` was read.
//! Linux recycles PIDs; without the pin a new process could inherit the identity of a dead one.

use std::{
    fs,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::error::AttestError;

/// `/proc/PID/status` and `stat` are a few KiB; more is not what the kernel writes.
const MAX_PROC_FILE: u64 = 64 * 1024;

/// The facts of `/proc/PID/status` that make selectors. Effective IDs, as the kernel checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Effective user ID.
    pub uid: u32,
    /// Effective group ID.
    pub gid: u32,
    /// Supplementary group IDs.
    pub groups: Vec<u32>,
}

/// A process that called us, held by a pidfd.
pub struct Caller {
    pid: Pid,
    /// What the kernel says of the peer (SO_PEERCRED); none for TCP, where the owner of the socket was looked up.
    credentials: Option<(u32, u32)>,
    pidfd: OwnedFd,
    start_time: u64,
}

impl Caller {
    /// Pins the process `pid`, whose effective user and group the kernel gave as `credentials`.
    ///
    /// # Errors
    /// When the process is gone, is in another PID namespace (PID 0), or its `/proc` cannot be read.
    pub fn pin(pid: i32, credentials: Option<(u32, u32)>) -> Result<Self, AttestError> {
        let pid = match Pid::from_raw(pid) {
            Some(pid) if pid.as_raw_nonzero().get() > 0 => pid,
            _ => return Err(AttestError::OtherPidNamespace),
        };
        let raw = pid.as_raw_nonzero().get();
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Err(AttestError::Gone { pid: raw }),
            Err(error) => {
                return Err(AttestError::Io { pid: raw, what: "open a pidfd", source: error.into() });
            }
        };
        let start_time = match read_start_time(raw) {
            // Alive and not in /proc: that /proc is of other processes.
            Err(AttestError::Gone { .. }) if !has_exited(&pidfd) => {
                return Err(AttestError::ProcHidden { pid: raw });
            }
            other => other?,
        };
        Ok(Self { pid, credentials, pidfd, start_time })
    }

    /// The process ID in our PID namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// `/proc/PID/NAME`.
    #[must_use]
    pub fn proc_file(&self, name: &str) -> PathBuf {
        proc_file(self.pid(), name)
    }

    /// Reads `/proc/PID/NAME`, which is refused if it has more than `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &'static str, limit: u64) -> Result<String, AttestError> {
        read_proc(self.pid(), name, limit)
    }

    /// Reads the process's effective IDs and groups.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or says another user or group than the kernel said of the connection.
    pub fn status(&self) -> Result<ProcessStatus, AttestError> {
        let text = self.read("status", MAX_PROC_FILE)?;
        let status =
            parse_status(&text).ok_or(AttestError::Unreadable { pid: self.pid(), file: "status" })?;
        match self.credentials {
            Some((uid, gid)) if (uid, gid) != (status.uid, status.gid) => {
                Err(AttestError::CredentialsChanged {
                    pid: self.pid(),
                    connected: format!("uid {uid}, gid {gid}"),
                    now: format!("uid {}, gid {}", status.uid, status.gid),
                })
            }
            _ => Ok(status),
        }
    }

    /// Checks that the pinned process lives and that `/proc/PID` still shows it.
    ///
    /// # Errors
    /// [`AttestError::Gone`] when it does not.
    pub fn still_the_same(&self) -> Result<(), AttestError> {
        if has_exited(&self.pidfd) || read_start_time(self.pid())? != self.start_time {
            return Err(AttestError::Gone { pid: self.pid() });
        }
        // The pidfd is asked last: if it lives now, /proc/PID showed it all the while.
        if has_exited(&self.pidfd) { Err(AttestError::Gone { pid: self.pid() }) } else { Ok(()) }
    }
}

/// A pidfd becomes readable when its process exits.
fn has_exited(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&at_once)) {
        Ok(ready) => ready > 0,
        // Not known to live is not alive.
        Err(_) => true,
    }
}

fn proc_file(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn read_proc(pid: i32, name: &'static str, limit: u64) -> Result<String, AttestError> {
    read_bounded(proc_file(pid, name), limit).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => AttestError::Gone { pid },
        _ if source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            AttestError::Gone { pid }
        }
        _ => AttestError::Io { pid, what: "read /proc", source },
    })
}

/// The file's text. A process may put any bytes in its own name, so what is not UTF-8 is replaced.
pub(super) fn read_bounded(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_start_time(pid: i32) -> Result<u64, AttestError> {
    let text = read_proc(pid, "stat", MAX_PROC_FILE)?;
    parse_start_time(&text).ok_or(AttestError::Unreadable { pid, file: "stat" })
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
    let effective = |key: &str| line(key)?.split_ascii_whitespace().nth(1)?.parse::<u32>().ok();
    let groups = line("Groups:")?.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(ProcessStatus { uid: effective("Uid:")?, gid: effective("Gid:")?, groups })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

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
        assert_eq!(status, ProcessStatus { uid: 2, gid: 6, groups: vec![10, 20] });
        assert_eq!(parse_status("Uid:\t1\n"), None);
    }

    #[test]
    fn a_process_that_exited_is_not_attested() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let caller = Caller::pin(i32::try_from(child.id()).unwrap(), None).unwrap();
        caller.still_the_same().unwrap();

        drop(child.stdin.take());
        // It is dead but not yet reaped here: /proc/PID is still there and only the pidfd knows.
        let mut fds = [PollFd::new(&caller.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        assert!(matches!(caller.still_the_same(), Err(AttestError::Gone { .. })));
        child.wait().unwrap();
        assert!(matches!(caller.still_the_same(), Err(AttestError::Gone { .. })));
    }

    #[test]
    fn other_credentials_than_the_connections_are_refused() {
        let me = i32::try_from(std::process::id()).unwrap();
        let caller = Caller::pin(me, Some((4_000_000, 4_000_000))).unwrap();
        assert!(matches!(caller.status(), Err(AttestError::CredentialsChanged { .. })));
    }

    #[test]
    fn pid_zero_means_another_pid_namespace() {
        assert!(matches!(Caller::pin(0, None), Err(AttestError::OtherPidNamespace)));
    }
}
