//! X.509-SVIDs: making them ([`ca`]), accepting them ([`verify`]), describing them ([`inspect`]).

pub mod ca;
mod error;
#[cfg(test)]
pub(crate) mod testing;
pub mod verify;

pub use ca::{BACKDATE, CaParams, SvidParams, X509Ca, X509Svid};
pub use error::{UntrustedRoot, X509Error};
pub use verify::{VerifiedPeer, verify_peer};

pub use crate::certificate::{CertInfo, Subject, dns, inspect, sha256};

/// Most certificates of a presented chain that are looked at, the leaf included.
pub const MAX_CHAIN: usize = 10;
