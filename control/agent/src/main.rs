//! The `svidecar-agent` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    svidecar_agent::cli::main(std::env::args_os())
}
