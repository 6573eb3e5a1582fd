//! The `svidecar-server` binary.

fn main() {}
