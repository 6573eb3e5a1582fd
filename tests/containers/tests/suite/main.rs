//! The stacks of `compose/` on a real Docker Engine, as their users run them.
//!
//! Each test is a project of its own, so they run side by side; each is brought down at its end, with its volumes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attestation;
mod examples;
mod faults;
mod lost;
mod platform;
mod story;
