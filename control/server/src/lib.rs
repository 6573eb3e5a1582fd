//! The trust domain's authority: CA, registration entries, agents, bundles.
//!
//! The library holds every part; the binary only starts its command line. So that each can be tested alone.

pub mod ca;
pub mod store;
