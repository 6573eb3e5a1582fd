//! The `svidecar` binary.

fn main() {}
