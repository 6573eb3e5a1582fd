//! SPIFFE IDs and trust domain names: the one grammar that all parts share.
//!
//! Owns parsing, comparing and printing of the names in the SPIFFE-ID standard. Only the canonical
//! form is accepted (lowercase scheme and trust domain, no percent-encoding), so that equal IDs are
//! equal bytes and no two parts can disagree about what an ID says. It must never do I/O and never
//! know what an ID is used for; patterns over IDs belong to the policy language.

mod error;
mod grammar;
mod spiffe_id;
mod trust_domain;

pub use error::IdError;
pub use grammar::{MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES, SCHEME, check_segment};
pub use spiffe_id::SpiffeId;
pub use trust_domain::TrustDomain;
