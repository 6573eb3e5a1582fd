//! The rules of SPIFFE-ID §2, on plain text. What has passed them becomes a [`crate::SpiffeId`] or a
//! [`crate::TrustDomain`]; no rule is written anywhere else.

use crate::IdError;

/// Longest accepted ID in bytes, scheme included (SPIFFE-ID §2.3).
pub const MAX_ID_BYTES: usize = 2048;

/// Longest accepted trust domain name in bytes (SPIFFE-ID §2.3, RFC 3986 host).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The scheme and its separator, the only accepted beginning of an ID.
pub const SCHEME: &str = "spiffe://";

/// Checks a whole ID and gives the name of its trust domain.
pub(crate) fn check_id(text: &str) -> Result<&str, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    check_length(text)?;
    let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
    let (name, path) = match rest.split_once('/') {
        Some((name, path)) => (name, Some(path)),
        None => (rest, None),
    };
    check_trust_domain(name)?;
    if let Some(path) = path {
        check_path(path)?;
    }
    Ok(name)
}

/// Checks the length of a whole ID.
pub(crate) fn check_length(text: &str) -> Result<(), IdError> {
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong { bytes: text.len() });
    }
    Ok(())
}

/// Checks the bare name of a trust domain.
pub(crate) fn check_trust_domain(name: &str) -> Result<(), IdError> {
    if name.is_empty() {
        return Err(IdError::EmptyTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err(IdError::TrustDomainTooLong { bytes: name.len() });
    }
    match name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
        Some(found) => Err(IdError::TrustDomainCharacter { found }),
        None => Ok(()),
    }
}

/// Checks the path without its leading `/`.
pub(crate) fn check_path(path: &str) -> Result<(), IdError> {
    if path.is_empty() || (path.ends_with('/') && !path.ends_with("//")) {
        return Err(IdError::TrailingSlash);
    }
    path.split('/').try_for_each(check_segment)
}

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
