//! The way to the server: one channel, dialled with the identity and the bundles of the moment.
//!
//! Owns addresses, dialling and the reading of denials. A channel dials again by itself; what it dials with
//! is asked anew each time, so a renewed SVID or a rotated root needs no restart. It must never decide when
//! to call.

mod address;
mod calls;
mod dial;
mod link;

pub use address::Address;
pub use calls::{CALL_TIMEOUT, MAX_MESSAGE, get_bundle};
pub use dial::{BundleSource, Trust, call_error, dial, dial_as};
pub use link::{Link, Session, doubt};
