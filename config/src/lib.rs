//! Every setting of every svidecar binary, and the policy language: typed, documented, validated.
//!
//! A program's settings are one value, read once from defaults, a file, the environment and flags (in that
//! order; the later wins) by [`load::Loader`], which knows where every value came from and reports every
//! problem at once with its place. Nothing else in the workspace reads configuration files or the environment.
//! This crate must never open a socket, start a task, or keep state.

pub mod address;
pub mod agent;
pub mod args;
pub mod diagnostic;
pub mod load;
pub mod log;
pub mod normalize;
pub mod pattern;
pub mod policy;
pub mod problems;
pub mod proxy;
pub mod reference;
pub mod secret;
pub mod server;
pub mod show;
mod text;
pub mod units;
pub mod yaml;

pub use text::InvalidValue;
pub use units::{ByteSize, HumanDuration};
