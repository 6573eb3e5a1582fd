//! The data plane in process: real sockets, a real Workload API server that the tests drive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod admin;
mod handshake;
mod hbone;
mod http;
mod lifecycle;
mod limits;
mod local;
mod logs;
mod memory;
mod process;
mod reload;
mod shortage;
mod standing;
#[path = "../support/support.rs"]
mod support;
mod tcp;
mod upstream;
