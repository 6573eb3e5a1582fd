//! The `svidecar` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    svidecar::cli::main(std::env::args_os())
}
