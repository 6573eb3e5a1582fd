//! Two minutes of accidents. `make soak` has longer ones, and draws another schedule each time.

use std::time::Duration;

use anyhow::Result;
use svidecar_stack::{Binaries, Launch};

/// The schedule that is always the same: every kind of fault is in it.
const SEED: &str = "14";

/// The faults, and around them the start of everybody and the time to see that all is well.
const LIMIT: Duration = Duration::from_secs(360);

#[tokio::test]
async fn nothing_breaks_what_must_hold() -> Result<()> {
    let test = "nothing_breaks_what_must_hold";
    let binaries = Binaries::beside_this_program(None)?;
    if !nix::unistd::Uid::effective().is_root() {
        return binaries.skip(test, "root");
    }
    let soak = Launch::new(env!("CARGO_BIN_EXE_svidecar-faults"))
        .args(["soak", "--minutes", "2", "--seed", SEED])
        .patience(LIMIT);
    let said = soak.text().await?;
    println!("{said}");
    if said.contains("without faults of clocks") { binaries.skip(test, "libfaketime") } else { Ok(()) }
}
