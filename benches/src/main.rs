//! The `svidecar-bench` binary: what identity and an idle sidecar cost, with the real binaries of the release
//! profile. Prints tables, and writes them into `benches/README.md`.

mod identity;
mod idle;
mod report;
mod sample;

use anyhow::{Result, ensure};

fn main() -> Result<()> {
    ensure!(!cfg!(debug_assertions), "measure the release build: `make bench`");
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let identity = identity::measure().await?;
        let idle = idle::measure().await?;
        report::write(&format!("{identity}\n{idle}"))
    })
}
