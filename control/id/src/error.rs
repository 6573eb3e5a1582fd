//! Why a name is not a SPIFFE ID or not a trust domain.

/// The first rule of the SPIFFE-ID standard that a text breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Nothing was given.
    #[error("it is empty; expected `spiffe://TRUST-DOMAIN/PATH`")]
    Empty,
    /// Over [`crate::MAX_ID_BYTES`].
    #[error("it has {bytes} bytes; a SPIFFE ID has at most 2048")]
    TooLong {
        /// Length of what was given, in bytes.
        bytes: usize,
    },
    /// Another scheme, or the scheme in another case.
    #[error("it does not begin with `spiffe://` (in lower case)")]
    Scheme,
    /// No host.
    #[error("the trust domain is missing; expected `spiffe://TRUST-DOMAIN/PATH`")]
    EmptyTrustDomain,
    /// Over [`crate::MAX_TRUST_DOMAIN_BYTES`].
    #[error("the trust domain has {bytes} bytes; at most 255 are allowed")]
    TrustDomainTooLong {
        /// Length of the trust domain, in bytes.
        bytes: usize,
    },
    /// A character outside `[a-z0-9._-]` in the trust domain; covers user info, port and percent-encoding.
    #[error("the trust domain has the character {found:?}; only a-z, 0-9, `.`, `-` and `_` are allowed")]
    TrustDomainCharacter {
        /// The first character that is not allowed.
        found: char,
    },
    /// A character outside `[a-zA-Z0-9._-]` in a path segment; covers query, fragment and percent-encoding.
    #[error("the path has the character {found:?}; only a-z, A-Z, 0-9, `.`, `-` and `_` are allowed")]
    PathCharacter {
        /// The first character that is not allowed.
        found: char,
    },
    /// `//` inside the path.
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// The path ends in `/`.
    #[error("it ends in `/`; drop the slash")]
    TrailingSlash,
    /// A path that does not begin with `/` was joined to a trust domain.
    #[error("the path does not begin with `/`")]
    RelativePath,
}
