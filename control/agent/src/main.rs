//! The `svidecar-agent` binary.

fn main() {}
