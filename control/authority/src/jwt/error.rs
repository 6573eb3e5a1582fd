//! Why a token is not accepted.

use svidecar_code::Code;
use svidecar_id::IdError;

/// One reason, the first that was found. [`JwtError::code`] is the stable word for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// Over the bound.
    #[error("the token has {bytes} bytes; at most {} are read", super::MAX_TOKEN_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// JWS JSON serialization (JWT-SVID §1, §5.1).
    #[error("the token is in JWS JSON form; a JWT-SVID is in compact form (three parts separated by dots)")]
    JsonForm,
    /// Not three parts of base64url.
    #[error("the token is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Outside the nine algorithms (JWT-SVID §2.1).
    #[error(
        "the token is signed with the algorithm `{algorithm}`; allowed are RS256 to RS512, ES256 to ES512 and PS256 to PS512"
    )]
    Algorithm {
        /// The header's `alg`, shortened when very long.
        algorithm: String,
    },
    /// Another kind of token (JWT-SVID §2.3).
    #[error("the token's type is `{found}`; a JWT-SVID has `JWT`, `JOSE` or none")]
    Type {
        /// The header's `typ`, shortened when very long.
        found: String,
    },
    /// A header that demands understanding of an extension (RFC 7515 §4.1.11).
    #[error("the token's header has `crit`, and we know none of its extensions")]
    Critical,
    /// No `kid`.
    #[error("the token's header has no `kid`, so no key can be chosen for it")]
    NoKeyId,
    /// No `sub`, or one that is no SPIFFE ID (JWT-SVID §3.1).
    #[error("the token's subject `{subject}` is not a SPIFFE ID: {error}")]
    Subject {
        /// The claim, shortened when very long.
        subject: String,
        /// The rule that it breaks.
        error: IdError,
    },
    /// No `aud` (JWT-SVID §3.2).
    #[error("the token has no audience")]
    NoAudience,
    /// Made for somebody else (JWT-SVID §4).
    #[error("the token of `{subject}` is for {found}, not for {expected}")]
    Audience {
        /// The token's subject.
        subject: String,
        /// Its audiences.
        found: String,
        /// Ours.
        expected: String,
    },
    /// No `exp` (JWT-SVID §3.3).
    #[error("the token of `{subject}` has no expiry")]
    NoExpiry {
        /// The token's subject.
        subject: String,
    },
    /// Past its `exp`.
    #[error("the token of `{subject}` expired {ago} ago, at {expires_at}; its holder should fetch a new one")]
    Expired {
        /// The token's subject.
        subject: String,
        /// How long ago.
        ago: String,
        /// RFC 3339.
        expires_at: String,
    },
    /// Before its `nbf`.
    #[error("the token of `{subject}` is valid only in {ahead}; one of the two clocks is wrong")]
    NotYetValid {
        /// The token's subject.
        subject: String,
        /// How far in the future.
        ahead: String,
    },
    /// No bundle for the subject's trust domain (Workload API §6.3).
    #[error(
        "the token's subject `{subject}` is of a trust domain that we have no bundle for; known are: {known}"
    )]
    UnknownTrustDomain {
        /// The token's subject.
        subject: String,
        /// The trust domains that we have bundles for.
        known: String,
    },
    /// The bundle has no such key.
    #[error(
        "the token of `{subject}` is signed by the key `{kid}`, which is not in our bundle (keys: {held}). Either our bundle is old, or the token was made by another authority"
    )]
    UnknownKey {
        /// The token's subject.
        subject: String,
        /// The header's `kid`, shortened when very long.
        kid: String,
        /// The keys that we have.
        held: String,
    },
    /// The key cannot have made a signature of the stated algorithm.
    #[error("the token names the algorithm {algorithm}, which does not fit its key `{kid}`")]
    AlgorithmMismatch {
        /// The header's `alg`.
        algorithm: &'static str,
        /// The header's `kid`.
        kid: String,
    },
    /// The signature does not verify.
    #[error(
        "the signature of the token of `{subject}` does not verify: it was changed, or not made by the key that it names"
    )]
    BadSignature {
        /// The subject that it claims.
        subject: String,
    },
}

impl JwtError {
    /// The stable word for logs, metric labels and the troubleshooting page.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLong { .. } => Code::TokenTooLong,
            Self::JsonForm => Code::TokenJsonForm,
            Self::Malformed { .. } => Code::MalformedToken,
            Self::Algorithm { .. } => Code::AlgorithmNotAllowed,
            Self::Type { .. } => Code::WrongTokenType,
            Self::Critical => Code::CriticalHeader,
            Self::NoKeyId => Code::NoKeyId,
            Self::Subject { .. } => Code::InvalidSpiffeId,
            Self::NoAudience => Code::NoAudience,
            Self::Audience { .. } => Code::WrongAudience,
            Self::NoExpiry { .. } => Code::NoExpiry,
            Self::Expired { .. } => Code::Expired,
            Self::NotYetValid { .. } => Code::NotYetValid,
            Self::UnknownTrustDomain { .. } => Code::UnknownTrustDomain,
            Self::UnknownKey { .. } => Code::UnknownKey,
            Self::AlgorithmMismatch { .. } => Code::AlgorithmMismatch,
            Self::BadSignature { .. } => Code::BadSignature,
        }
    }
}
