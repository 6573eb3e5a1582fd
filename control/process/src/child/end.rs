//! Taking the ends of processes. Knows every signal that can end one, the real-time signals too.

use std::io;

use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus},
};

/// A shell's convention: killed by signal N exits with 128 + N.
const SIGNALLED: i32 = 128;

/// The end of a process.
pub(super) struct End {
    /// Whose; it may be given to another process from now on.
    pub(super) pid: i32,
    /// The exit code that says how it was.
    pub(super) code: u8,
}

/// Takes the end of the process `whom`, or of any below us; `None` while there is none.
pub(super) fn take(whom: Option<i32>) -> io::Result<Option<End>> {
    let whom = whom.and_then(Pid::from_raw);
    loop {
        match rustix::process::waitpid(whom, WaitOptions::NOHANG) {
            Ok(ended) => {
                return Ok(ended
                    .map(|(pid, status)| End { pid: pid.as_raw_nonzero().get(), code: exit_code(status) }));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The exit code that says the same as `status`.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
