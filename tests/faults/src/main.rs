//! `svidecar-faults`: a fleet of real processes under load, and accidents by the hundred, drawn from a seed.
//!
//! Owns the command line, and the mount namespace in which all of it lives and goes away.

mod app;
mod clocks;
mod disk;
mod fleet;
mod history;
mod levels;
mod link;
mod load;
mod member;
mod part;
mod schedule;
mod soak;
mod strike;
mod verdict;
mod workload;

use std::{
    ffi::OsString,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use nix::unistd::Uid;

/// A fleet under load, and accidents by the hundred.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Start everybody, let accidents happen, and end at the first thing that must not be
    Soak {
        /// For how long there are faults
        #[arg(long, default_value_t = 2.0)]
        minutes: f64,
        /// What the schedule is drawn from; the same seed is the same schedule
        #[arg(long)]
        seed: Option<u64>,
        /// Where to keep the files and logs of everybody
        #[arg(long)]
        dir: Option<PathBuf>,
        #[arg(long, hide = true)]
        inside: bool,
    },
    /// Print what would happen when
    Schedule {
        /// For how long there are faults
        #[arg(long, default_value_t = 2.0)]
        minutes: f64,
        /// What the schedule is drawn from
        #[arg(long)]
        seed: u64,
    },
    /// The app behind a sidecar
    #[command(hide = true)]
    App { http: SocketAddr, echo: SocketAddr },
    /// A workload that holds its SVID
    #[command(hide = true)]
    Workload { socket: String },
    /// Become another program that is killed when the parent dies
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        parent: i32,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().part {
        Part::Soak { minutes, seed, dir, inside: true } => {
            let plan = soak::Plan { seed: seed.unwrap_or_default(), span: span(minutes) };
            soak_in(dir, |dir| block_on(soak::run(plan, dir)))
        }
        Part::Soak { minutes, seed, dir, inside: false } => enter(minutes, seed, dir),
        Part::Schedule { minutes, seed } => print_schedule(seed, minutes),
        Part::App { http, echo } => block_on(app::serve(http, echo)),
        Part::Workload { socket } => block_on(workload::follow(&socket)),
        Part::Guard { parent, command } => svidecar_stack::guard::become_guarded(parent, &command).map(drop),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn span(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes.max(0.0) * 60.0)
}

/// Becomes the same in a mount namespace of its own: its disks go away with it, whatever way it ends.
fn enter(minutes: f64, seed: Option<u64>, dir: Option<PathBuf>) -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "the soak mounts disks and runs workloads as other users: run it as root"
    );
    let seed = seed.unwrap_or_else(rand::random);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    command.args(["soak", "--inside", "--minutes", &minutes.to_string(), "--seed", &seed.to_string()]);
    if let Some(dir) = dir {
        command.arg("--dir").arg(dir);
    }
    Err(command.exec()).context("cannot run unshare, of the package util-linux")
}

/// Runs it in a folder that is given, and kept; or in one that is kept only if something is wrong.
fn soak_in(dir: Option<PathBuf>, soak: impl FnOnce(&std::path::Path) -> Result<()>) -> Result<()> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(&dir)?;
        return soak(&dir.canonicalize()?);
    }
    let dir = tempfile::Builder::new().prefix("svidecar-faults-").tempdir()?;
    let outcome = soak(dir.path());
    if outcome.is_err() {
        println!("all they said is in {}", dir.keep().display());
    }
    outcome
}

fn print_schedule(seed: u64, minutes: f64) -> Result<()> {
    let abilities = schedule::Abilities { clocks: clocks::library().is_some() };
    for event in schedule::draw(seed, span(minutes), abilities)? {
        println!("{event}");
    }
    Ok(())
}

/// One thread: a child's guard fires when the thread that started it ends, so that must be the last one.
fn block_on(part: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(part)
}
