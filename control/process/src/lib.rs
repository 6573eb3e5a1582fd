//! What every program of svidecar is, whatever it does: signals, and the command after `--` that it may run.
//!
//! The binaries stand on it. It must never know one of them, nor what only one of them needs.

pub mod child;
pub mod error;
pub mod signals;

pub use child::Child;
pub use error::WrapperError;
pub use signals::{Received, Signals, is_termination};
