//! Whether the data path may be trusted: raw bytes at the doors of a running proxy, raw bytes at the app behind it.
//!
//! Nothing in here uses the proxy's own codecs, and hardly anything somebody else's: what a test sends and what it reads is on the page, or
//! in `tools`, which is small and strict.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod edges;
mod floods;
mod gone;
mod memory;
mod oracle;
mod shared;
mod shares;
mod smuggling;
#[path = "../support/support.rs"]
#[allow(dead_code, reason = "the tests of the data plane use the rest")]
mod support;
mod tools;
mod under_load;
