//! Ties a child's life to its parent's: whatever way the conductor ends, the kernel ends the child. Never returns
//! when it succeeds, because it becomes the child.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{prctl, signal::Signal};
use nix::unistd::getppid;

/// Asks the kernel for SIGKILL at the parent's end, then executes the command in place of this process.
///
/// # Errors
/// When the parent has ended already, or the command cannot be executed.
pub fn become_guarded(parent: i32, command: &[OsString]) -> Result<ExitCode> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before we asked; then nobody would ever signal us.
    ensure!(getppid().as_raw() == parent, "the parent has ended already");
    let (program, args) = command.split_first().context("no command")?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
}
