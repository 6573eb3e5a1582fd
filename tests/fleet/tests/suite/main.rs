//! What a trust domain lives through: authorities that come and go, outages, and disks that were lost.
//!
//! Nothing waits for a while. A server's clock may be days behind when a test begins; what passes until it is right has
//! passed for the server alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod compromise;
mod disaster;
mod joining;
mod outage;
