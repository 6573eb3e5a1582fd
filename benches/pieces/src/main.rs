//! The `svidecar-pieces` binary: how many instructions each piece takes that a request passes. Valgrind counts, so that
//! the figures are the same to the digit on a machine that is busy with other things.
//!
//! A piece runs 1,000 times in one run and 2,000 times in another; a thousandth of the difference is what it takes once,
//! without start and end of the program. Measures no time.

mod count;
mod pieces;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::pieces::Piece;

/// Instruction counts of the pieces that a request passes. See benches/README.md.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one piece so many times
    Run {
        /// Which
        piece: Piece,
        /// How often
        times: usize,
    },
    /// Count the instructions of all pieces, compare them with the last counts, and keep them
    Count {
        /// The file of counts
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // Nothing is left to tell, if standard error is closed.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { piece, times } => piece.run(times)?,
        Command::Count { file } => count::all(&file)?,
    }
    Ok(ExitCode::SUCCESS)
}
