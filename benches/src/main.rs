//! The `svidecar-bench` binary: what identity, an idle sidecar and a decision cost, with the real binaries of the release
//! profile. Prints tables, and writes them into `benches/README.md`.

mod identity;
mod idle;
mod policy;
mod report;
mod sample;

use anyhow::{Result, ensure};

fn main() -> Result<()> {
    ensure!(!cfg!(debug_assertions), "measure the release build: `make bench`");
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let identity = identity::measure().await?;
        let idle = idle::measure().await?;
        let policy = policy::measure()?;
        report::write(&format!("{identity}\n{idle}\n{policy}"))
    })
}
