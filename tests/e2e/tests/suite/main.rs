//! End to end: the built binaries as processes, with clients and peers that others wrote.
//!
//! Each module is one point of view. Tests run side by side: each has a stack of its own, in a folder and on ports of
//! its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod agent;
mod clients;
mod command_line;
mod envoy;
mod grpc;
mod http2;
mod network;
mod restart;
mod rotation;
mod sidecars;
mod tunnels;
mod websocket;
mod wrapper;
