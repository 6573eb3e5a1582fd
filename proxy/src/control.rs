//! Everything around the way of a request: starts the proxy and stops it, keeps identity and settings current, answers
//! administrators, reads the command line.
//!
//! Runs on the control thread; nothing in here is on the way of a request.

pub mod admin;
pub mod cli;
mod identity;
pub mod local;
pub mod network;
pub mod proxy;
pub mod ready;
pub mod reload;
pub mod run;
mod time;
