//! A calling process, pinned.
//!
//! Owns the guarantee that a PID means the same process from accept to decision, with the same user and program: a pidfd is
//! had right after accept, and all that was true then is looked at again after `/proc` was read. Linux recycles PIDs,
//! processes run other programs, and descriptors are inherited; without the pin one could have another's identity.

pub mod proc;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{getsockopt, sockopt},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::io::{Interest, unix::AsyncFd};

pub use proc::{FileId, ProcessStatus};

use super::{holders, speaker::Speaker};
use crate::error::AttestError;

/// How long a client may take to acknowledge our settings.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// A process that called us, held by a pidfd. Needs a runtime, which tells when the process ends.
pub struct Caller {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    start_time: u64,
    /// Effective user and group: of the connection where the kernel tells them, else of the process when it was pinned.
    ids: (u32, u32),
    executable: Option<FileId>,
    line: Line,
}

/// What shows that the process is the one at the other end.
enum Line {
    /// Nobody is: an operator asks about it.
    None,
    /// Each byte says who wrote it.
    Unix(Speaker),
    /// Only it holds the socket of this inode.
    Tcp(u64),
}

impl Caller {
    /// Pins the process `pid`, which has not called.
    ///
    /// # Errors
    /// When the process is gone, or its `/proc` cannot be read.
    pub fn pin(pid: i32) -> Result<Self, AttestError> {
        Self::with(valid(pid)?, None, None, Line::None)
    }

    /// Pins the process that connected to our end `stream` of a Unix socket, which has to have SO_PASSCRED.
    ///
    /// # Errors
    /// When the kernel does not say who it was, the process is gone, is in another PID namespace (PID 0), or its
    /// `/proc` cannot be read.
    pub fn of_unix(stream: &impl AsFd) -> Result<Self, AttestError> {
        Self::of_unix_by(stream, peer_pidfd(stream)?)
    }

    /// As [`Self::of_unix`], with the `pidfd` that the kernel gives from 6.5 on. Without one it is opened by number, and then
    /// may be of another process with that number. That one has not spoken, and [`Self::speaks`] never comes true of it.
    pub fn of_unix_by(stream: &impl AsFd, pidfd: Option<OwnedFd>) -> Result<Self, AttestError> {
        let credentials =
            getsockopt(stream, sockopt::PeerCredentials).map_err(|_| AttestError::NoCredentials)?;
        let pid = valid(credentials.pid())?;
        let ids = (credentials.uid(), credentials.gid());
        Self::with(pid, pidfd, Some(ids), Line::Unix(Speaker::new(credentials.pid())))
    }

    /// Pins the process `pid`, which was found to hold the socket `inode`.
    ///
    /// # Errors
    /// As [`Self::pin`]; and when the socket is not its alone.
    pub fn of_tcp(pid: i32, inode: u64) -> Result<Self, AttestError> {
        let caller = Self::with(valid(pid)?, None, None, Line::Tcp(inode))?;
        caller.still_the_same()?;
        Ok(caller)
    }

    fn with(
        pid: Pid,
        pidfd: Option<OwnedFd>,
        ids: Option<(u32, u32)>,
        line: Line,
    ) -> Result<Self, AttestError> {
        let raw = pid.as_raw_nonzero().get();
        let failed = |what| move |source| AttestError::Io { pid: raw, what, source };
        let pidfd = match pidfd {
            Some(pidfd) => pidfd,
            None => match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => pidfd,
                Err(rustix::io::Errno::SRCH) => return Err(AttestError::Gone { pid: raw }),
                Err(error) => return Err(failed("open a pidfd")(error.into())),
            },
        };
        let start_time = match proc::start_time(raw) {
            // Alive and not in /proc: that /proc is of other processes.
            Err(AttestError::Gone { .. }) if !has_exited(&pidfd) => {
                return Err(AttestError::ProcHidden { pid: raw });
            }
            other => other?,
        };
        let ids = match ids {
            Some(ids) => ids,
            None => proc::status(raw).map(|status| (status.uid, status.gid))?,
        };
        let executable = proc::executable(raw);
        // If it lives now, /proc/PID showed it all the while.
        if has_exited(&pidfd) {
            return Err(AttestError::Gone { pid: raw });
        }
        #[expect(deprecated, reason = "unsound for types that lie about their descriptor; this one owns it")]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(failed("watch the pidfd"))?;
        Ok(Self { pid, pidfd, start_time, ids, executable, line })
    }

    /// The process ID in our PID namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its effective user, as pinned.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.ids.0
    }

    /// The program that it was pinned with, where the kernel let us see it.
    #[must_use]
    pub const fn executable(&self) -> Option<FileId> {
        self.executable
    }

    /// `/proc/PID/NAME`.
    #[must_use]
    pub fn proc_file(&self, name: &str) -> PathBuf {
        proc::file(self.pid(), name)
    }

    /// Reads `/proc/PID/NAME`, which is refused if it has more than `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &'static str, limit: u64) -> Result<String, AttestError> {
        proc::read(self.pid(), name, limit)
    }

    /// Reads the process's effective IDs and groups.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or says another user or group than when it was pinned.
    pub fn status(&self) -> Result<ProcessStatus, AttestError> {
        let status = proc::status(self.pid())?;
        if self.ids != (status.uid, status.gid) {
            let (uid, gid) = self.ids;
            return Err(AttestError::CredentialsChanged {
                pid: self.pid(),
                connected: format!("uid {uid}, gid {gid}"),
                now: format!("uid {}, gid {}", status.uid, status.gid),
            });
        }
        Ok(status)
    }

    /// Checks that the pinned process lives, that `/proc/PID` still shows it, that it has the same user, group and program,
    /// and that a socket that only it held is still its alone.
    ///
    /// # Errors
    /// What has changed.
    pub fn still_the_same(&self) -> Result<(), AttestError> {
        let pid = self.pid();
        if has_exited(&self.pidfd) || proc::start_time(pid)? != self.start_time {
            return Err(AttestError::Gone { pid });
        }
        let status = self.status()?;
        if proc::executable(pid) != self.executable {
            return Err(AttestError::ProgramChanged { pid });
        }
        if let Line::Tcp(inode) = self.line {
            if !status.own_ids {
                return Err(AttestError::BorrowedIds { pid });
            }
            match holders::of(inode).as_slice() {
                [one] if *one == pid => {}
                [] => return Err(AttestError::NoSocketOwner),
                others => {
                    let other = others.iter().copied().find(|other| *other != pid).unwrap_or_default();
                    return Err(AttestError::SharedConnection { pid, other });
                }
            }
        }
        // The pidfd is asked last: if it lives now, /proc/PID showed it all the while.
        if has_exited(&self.pidfd) { Err(AttestError::Gone { pid }) } else { Ok(()) }
    }

    /// Who listens for it, where the kernel says of each byte who wrote it.
    #[must_use]
    pub fn speaker(&self) -> Option<&Speaker> {
        match &self.line {
            Line::Unix(speaker) => Some(speaker),
            Line::None | Line::Tcp(_) => None,
        }
    }

    /// Waits until it is known that the pinned process itself is at the other end.
    ///
    /// # Errors
    /// When another process is there too, or the pinned one has not spoken in time.
    pub async fn speaks(&self) -> Result<(), AttestError> {
        let Line::Unix(speaker) = &self.line else { return Ok(()) };
        match tokio::time::timeout(FIRST_WORD, speaker.is_the_caller()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(AttestError::Silent { pid: self.pid(), after: FIRST_WORD }),
        }
    }

    /// Resolves when the process has ended.
    pub async fn exited(&self) {
        loop {
            // A runtime that is shutting down tells no more of it, and ends whoever waits here.
            let Ok(mut ready) = self.pidfd.readable().await else { return };
            if has_exited(&self.pidfd) {
                return;
            }
            ready.clear_ready();
        }
    }
}

fn valid(pid: i32) -> Result<Pid, AttestError> {
    match Pid::from_raw(pid) {
        Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(pid),
        _ => Err(AttestError::OtherPidNamespace),
    }
}

/// SO_PEERPIDFD; none on a kernel before 6.5.
fn peer_pidfd(stream: &impl AsFd) -> Result<Option<OwnedFd>, AttestError> {
    match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::ENOPROTOOPT) => Ok(None),
        // It ended and was buried before we asked; later kernels give a pidfd even so.
        Err(Errno::ESRCH | Errno::EINVAL) => {
            let pid = getsockopt(stream, sockopt::PeerCredentials).map_or(0, |peer| peer.pid());
            Err(if pid == 0 { AttestError::OtherPidNamespace } else { AttestError::Gone { pid } })
        }
        Err(Errno::ENODATA) => Err(AttestError::NoCredentials),
        Err(error) => {
            Err(AttestError::Io { pid: 0, what: "get the pidfd of a caller", source: io::Error::from(error) })
        }
    }
}

/// A pidfd becomes readable when its process exits.
fn has_exited(pidfd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&at_once)) {
        Ok(ready) => ready > 0,
        // Not known to live is not alive.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests;
