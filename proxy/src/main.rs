//! The `svidecar` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    svidecar::control::cli::main(std::env::args_os())
}
