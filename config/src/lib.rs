//! Every setting of every svidecar binary: typed, documented, validated.
//!
//! A program's settings are one value, read once from defaults, a file, the environment and flags (in that
//! order; the later wins) by [`load::Loader`], which knows where every value came from and reports every
//! problem at once with its place. Nothing else in the workspace reads configuration files or the environment.
//! This crate must never open a socket, start a task, or keep state.

pub mod address;
pub mod agent;
mod formats;
pub mod load;
pub mod log;
pub mod place;
pub mod proxy;
pub mod reference;
pub mod secret;
pub mod server;
pub mod settings;
pub mod show;
mod text;
pub mod units;

pub use svidecar_document::{diagnostic, problems, text::InvalidValue};

pub use units::{ByteSize, HumanDuration};
