//! SPIFFE IDs and trust domain names: the one grammar that all parts share.
//!
//! Owns parsing, comparing and printing of the names in the SPIFFE-ID standard. Only the canonical
//! form is accepted (lowercase scheme and trust domain, no percent-encoding), so that equal IDs are
//! equal bytes and no two parts can disagree about what an ID says. It must never do I/O and never
//! know what an ID is used for; patterns over IDs belong to the policy language.

mod error;
mod spiffe_id;
mod trust_domain;

pub use error::IdError;
pub use spiffe_id::SpiffeId;
pub use trust_domain::TrustDomain;

/// Longest accepted ID in bytes, scheme included (SPIFFE-ID §2.3).
pub const MAX_ID_BYTES: usize = 2048;

/// Longest accepted trust domain name in bytes (SPIFFE-ID §2.3, RFC 3986 host).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The scheme and its separator, the only accepted beginning of an ID.
pub const SCHEME: &str = "spiffe://";

/// Checks one path segment: not empty, not `.` or `..`, only `[a-zA-Z0-9._-]` (SPIFFE-ID §2.2).
///
/// # Errors
/// The first rule that the segment breaks.
pub fn check_segment(segment: &str) -> Result<(), IdError> {
    match segment {
        "" => return Err(IdError::EmptySegment),
        "." | ".." => return Err(IdError::DotSegment),
        _ => {}
    }
    match segment.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_')) {
        Some(found) => Err(IdError::PathCharacter { found }),
        None => Ok(()),
    }
}
