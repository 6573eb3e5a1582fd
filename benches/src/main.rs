//! The `svidecar-bench` binary: the race of sidecars, and the parts of it that run as processes of their own.

mod app;
mod course;
mod decide;
mod identity;
mod load;
mod machine;
mod process;
mod race;
mod relay;
mod report;
mod results;
mod subject;
mod tools;
mod wire;
mod workload;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use svidecar_stack::guard;
use tokio::signal::unix::{SignalKind, signal};

/// What svidecar costs, beside what others cost. See benches/README.md.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Run the race, or a part of it
    Race(race::Options),
    /// The plain app behind the server sidecar
    App {
        /// What it speaks
        wire: wire::Wire,
    },
    /// The load in front of the client sidecar
    Load(load::Options),
    /// A relay that only receives and sends
    Relay {
        /// Where it listens
        listen: SocketAddr,
        /// Where it connects
        target: SocketAddr,
    },
    /// Run a command that ends when its parent ends
    #[command(hide = true)]
    Guard {
        /// The parent's process ID
        #[arg(long)]
        parent: i32,
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    run(Arguments::parse().part).unwrap_or_else(|error| {
        // Nothing is left to tell, if standard error is closed.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(part: Part) -> Result<ExitCode> {
    if let Part::Guard { parent, command } = part {
        return guard::become_guarded(parent, &command);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        match part {
            Part::Race(options) => return race_unless_interrupted(options).await,
            Part::App { wire } => app::run(wire).await?,
            Part::Load(options) => load::run(options).await?,
            Part::Relay { listen, target } => relay::run(listen, target).await?,
            Part::Guard { .. } => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Dropped by Ctrl-C and by a polite end from outside, so that all of its processes end.
async fn race_unless_interrupted(options: race::Options) -> Result<ExitCode> {
    ensure!(!cfg!(debug_assertions), "measure an optimized build: `make bench`");
    let [mut interrupt, mut terminate] = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    tokio::select! {
        outcome = race::run(options) => outcome.map(|()| ExitCode::SUCCESS),
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    }
}
