//! The server as its callers see it: a whole one in this process, and clients over real connections.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod access;
mod attest;
mod bootstrap;
mod cli;
mod clock;
mod crash;
mod disk;
mod faults;
mod probes;
mod services;
mod strangers;
mod support;
mod watch;
