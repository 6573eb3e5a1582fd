//! One per node: attests itself and the workloads beside it, serves the SPIFFE Workload API.
//!
//! How a workload gets its identity: [`endpoints`] accept its connection and pin the process, [`attest`] finds
//! its selectors, [`manager`] and its [`cache`] know which entries match and have their SVIDs signed through
//! [`server`]; [`sync`] brings new entries as they are made. How the agent gets its own: [`join`]. [`run`] puts it
//! all together.

pub mod attest;
pub mod cache;
pub mod cli;
pub mod endpoints;
pub mod entry;
pub mod error;
pub mod join;
pub mod jwt;
pub mod manager;
pub mod run;
pub mod schedule;
pub mod selector;
pub mod server;
pub mod state;
pub mod status;
pub mod svid;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod why;
