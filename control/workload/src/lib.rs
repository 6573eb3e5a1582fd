//! A client of the SPIFFE Workload API, for every program that has an identity or needs a bundle.
//!
//! [`Client`] makes single calls and opens streams. [`IdentityWatch`] keeps an [`Identity`] current for as long as it
//! runs, and tells its user what happened, [`Event`] by event; what to log, to count and to do is the user's. It knows
//! none of them: no proxy, no server, no agent.

mod client;
mod expiry;
mod identity;
mod material;
mod session;
#[cfg(test)]
mod testing;
mod watch;

pub use client::{Client, ClientError, dial};
pub use expiry::Overdue;
pub use identity::{Identity, IdentityState, Status, Svid};
pub use material::{Choice, MaterialError};
pub use watch::{Event, IdentityWatch};
