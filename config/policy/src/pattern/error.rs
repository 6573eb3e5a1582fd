//! Why a text is not a pattern. Each sentence says what to write instead.

use svidecar_id::{IdError, MAX_ID_BYTES};

/// Why a text is not a pattern. Each sentence says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Longer than any SPIFFE ID can be.
    #[error("the pattern has {bytes} bytes; no SPIFFE ID is longer than {MAX_ID_BYTES}")]
    TooLong {
        /// Length of the rejected text.
        bytes: usize,
    },
    /// Does not begin with `spiffe://`.
    #[error(
        "a pattern begins with spiffe://, such as spiffe://demo.org/shop or spiffe://demo.org/ns/*/sa/web"
    )]
    Scheme,
    /// The trust domain holds a wildcard.
    #[error("the trust domain must be written out: a wildcard there would trust everyone's IDs")]
    WildcardTrustDomain,
    /// The trust domain breaks the grammar of SPIFFE-ID §2.1.
    #[error("the trust domain of the pattern is not valid: {0}")]
    TrustDomain(IdError),
    /// Names the trust domain itself.
    #[error(
        "spiffe://{trust_domain} names the trust domain itself, which is no workload's ID; \
         write spiffe://{trust_domain}/** for every workload in it"
    )]
    NoPath {
        /// The trust domain that the pattern names.
        trust_domain: String,
    },
    /// A literal segment breaks the grammar of SPIFFE-ID §2.2.
    #[error("the segment {segment:?} of the pattern can be in no SPIFFE ID: {source}")]
    Segment {
        /// The segment as it was written.
        segment: String,
        /// The rule that it breaks.
        source: IdError,
    },
    /// A wildcard shares its segment with other characters.
    #[error(
        "{segment:?} mixes a wildcard with other characters; `*` and `{{name}}` stand for one whole segment, \
         `**` for all that follows"
    )]
    PartialWildcard {
        /// The segment as it was written.
        segment: String,
    },
    /// `**` is followed by more.
    #[error("`**` stands for all that follows, so it can only be the last segment")]
    RestNotLast,
    /// A capture's name is not a name.
    #[error("{{{name}}} is not a capture: a name has 1 to 64 characters, lowercase letters, digits and _")]
    CaptureName {
        /// The name as it was written.
        name: String,
    },
    /// Two captures share one name.
    #[error("{{{name}}} appears twice in one pattern")]
    DuplicateCapture {
        /// The name that is not unique.
        name: String,
    },
    /// A path pattern does not begin with `/`.
    #[error("a path begins with /")]
    RelativePath,
    /// A path pattern is written in a way that no normalized path is.
    #[error("no request can match this path: requests are normalized before matching, and {0}")]
    NotNormalized(String),
}
