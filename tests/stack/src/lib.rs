//! A stack of real processes: server, agent, sidecars and apps, started from the built binaries.
//!
//! Owns how they are found, configured, started, awaited and stopped. Waits for events (a line that a process
//! says, its exit, an answer), never for a while; and leaves no process and no file behind when it is dropped.

pub mod binaries;
pub mod guard;
pub mod http;
pub mod ports;
pub mod process;
pub mod sidecar;
pub mod stack;

pub use binaries::Binaries;
pub use process::{Launch, Log, Process};
pub use sidecar::Sidecar;
pub use stack::{Stack, StackOptions, write_secret};

/// The longest that anything here waits for one event. Generous: it only decides how long a failure takes.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
