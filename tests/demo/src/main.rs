//! The `svidecar-demo` binary.

fn main() {}
