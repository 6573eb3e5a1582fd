//! Prints `docs/configuration.md`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().lock().write_all(svidecar_config::reference::document().as_bytes())
}
