//! The protocol against a peer that says anything, against ourselves, and against the `h2` crate.

mod exchanges;
mod floods;
mod flow;
mod interop;
mod rules;
mod sizes;
pub mod support;
mod tunnels;
