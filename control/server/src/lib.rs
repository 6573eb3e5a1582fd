//! The trust domain's authority: CA, registration entries, agents, bundles.
//!
//! The library holds every part; the binary only starts its command line. So that each can be tested alone.

pub mod attest;
mod backup;
mod bundles;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod entries;
pub mod error;
mod health;
mod ids;
pub mod limits;
pub mod peer;
mod renewals;
pub mod rpc;
pub mod run;
pub mod state;
pub mod store;
mod telemetry;
