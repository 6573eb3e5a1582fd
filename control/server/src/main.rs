//! The `svidecar-server` binary. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    svidecar_server::cli::main(std::env::args_os())
}
