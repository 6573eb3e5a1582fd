//! The agent in this process, on real sockets, against a server that the tests drive.
//!
//! The server (in `server.rs`) speaks SPIRE's APIs over real TLS with real certificates; what it does is decided
//! by each test: push or no push, away, another root, an eviction. Clients are plain gRPC clients of the
//! Workload API. Nothing sleeps: tests wait for messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attestation;
mod clock;
mod disk;
mod harness;
mod hostile;
mod jwt;
mod lifecycle;
mod logs;
mod replaced;
mod server;
mod x509;
