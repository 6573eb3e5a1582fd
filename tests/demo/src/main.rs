//! The `svidecar-demo` binary: a plain app, a plain client, and the conductor of `make demo`.
//!
//! App and client know nothing of TLS or SPIFFE: what they see is what an unmodified workload sees.

mod app;
mod client;
mod conduct;
mod identity;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The parts of `make demo`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// A plain HTTP app: GET /api/hello, /api/echo (the headers it saw, as JSON), /api/whoami, /health
    App {
        /// Where to listen; port 0 takes a free one, which it prints
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// The sidecar that started us, if one did: whom to ask who we are
        #[arg(long, value_name = "URL", env = "SVIDECAR_ADMIN", value_parser = identity::address)]
        sidecar: Option<SocketAddr>,
    },
    /// A plain HTTP client: one GET, or a steady stream of them
    Client {
        /// The address of the app, or of the sidecar in front of it
        address: SocketAddr,
        /// The path to get
        #[arg(default_value = "/api/hello")]
        path: String,
        /// A header to send, as `name: value`; may be repeated
        #[arg(short = 'H', long)]
        header: Vec<String>,
        /// Keep sending until SIGTERM (a minute at most), then say how it went
        #[arg(long)]
        repeat: bool,
    },
    /// Start everything, tell the story, stop everything
    Conduct {
        /// Leave it running at the end, until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Become another program that is killed when the parent dies
    #[command(hide = true)]
    Guard {
        /// The process whose end is ours
        #[arg(long)]
        parent: i32,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().part {
        Part::App { listen, sidecar } => block_on(app::serve(listen, sidecar)),
        Part::Client { address, path, header, repeat: false } => {
            block_on(client::once(address, &path, &header))
        }
        Part::Client { address, path, header, repeat: true } => {
            block_on(client::stream(address, &path, &header))
        }
        Part::Conduct { keep } => block_on(conduct::run(keep)),
        Part::Guard { parent, command } => svidecar_stack::guard::become_guarded(parent, &command),
    };
    outcome.unwrap_or_else(|error| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "Error: {error:#}");
        ExitCode::FAILURE
    })
}

/// One thread: a child's guard fires when the thread that started it ends, so that must be the last one.
fn block_on(part: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(part)
}
