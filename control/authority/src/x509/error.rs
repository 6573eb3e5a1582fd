//! Why a peer's X.509-SVID is not accepted, with both sides' facts.

use svidecar_code::Code;
use svidecar_id::{IdError, SpiffeId};

/// One reason, the first that was found. [`X509Error::code`] is the stable word for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum X509Error {
    /// The peer sent an empty chain.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// More certificates than any SPIFFE issuer sends.
    #[error("the peer presented {count} certificates; at most {} are looked at", super::MAX_CHAIN)]
    ChainTooLong {
        /// How many there were.
        count: usize,
    },
    /// A certificate that cannot be parsed.
    #[error("certificate {position} of the peer's chain cannot be read: {reason}")]
    Malformed {
        /// 0 for the leaf.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An ordinary certificate (X509-SVID §2).
    #[error("the peer's certificate (subject `{subject}`) has no URI name, so it carries no SPIFFE ID")]
    NoUriSan {
        /// Its subject, RFC 2253.
        subject: String,
    },
    /// An ambiguous certificate (X509-SVID §2, §5.2).
    #[error("the peer's certificate has {count} URI names; an SVID has exactly one")]
    MultipleUriSans {
        /// How many there are.
        count: usize,
    },
    /// The URI is not a SPIFFE ID (X509-SVID §5.2).
    #[error("the peer's URI name `{uri}` is not a SPIFFE ID: {error}")]
    InvalidId {
        /// The name as presented, shortened when very long.
        uri: String,
        /// The rule that it breaks.
        error: IdError,
    },
    /// A trust domain's own ID on a leaf (X509-SVID §5.2).
    #[error("the peer's ID `{id}` has no path: it is a trust domain, not a workload")]
    NoPath {
        /// The ID.
        id: SpiffeId,
    },
    /// A CA certificate used to authenticate (X509-SVID §5.2).
    #[error("`{id}` authenticated with a CA certificate (cA is true); a workload's SVID must not be a CA")]
    LeafIsCa {
        /// The ID.
        id: SpiffeId,
    },
    /// A signing certificate used to authenticate (X509-SVID §5.2).
    #[error("the certificate of `{id}` has the key usage {usage}, which an SVID must not have")]
    LeafSigns {
        /// The ID.
        id: SpiffeId,
        /// `keyCertSign` or `cRLSign`.
        usage: &'static str,
    },
    /// A key usage without `digitalSignature` (X509-SVID §4.3, RFC 8446 §4.4.2.2).
    #[error("the certificate of `{id}` lacks the key usage digitalSignature, so it cannot authenticate")]
    LeafCannotSign {
        /// The ID.
        id: SpiffeId,
    },
    /// No bundle for the peer's trust domain (Workload API §4.6).
    #[error(
        "`{id}` is of the trust domain `{trust_domain}`, for which we have no bundle; known are: {known}. Federate with it, or check the peer's ID"
    )]
    UnknownTrustDomain {
        /// The ID that was presented.
        id: SpiffeId,
        /// Its trust domain.
        trust_domain: String,
        /// The trust domains that we have bundles for, separated by commas.
        known: String,
    },
    /// A bundle that revokes everything (Bundle §4.1.3).
    #[error(
        "the bundle of `{trust_domain}` has no X.509 authority that is valid now ({held} held), so `{id}` cannot be accepted"
    )]
    EmptyBundle {
        /// The ID that was presented.
        id: SpiffeId,
        /// Its trust domain.
        trust_domain: String,
        /// How many authorities the bundle holds, expired ones included.
        held: usize,
    },
    /// The chain leads to none of our roots.
    #[error(transparent)]
    UntrustedRoot(Box<UntrustedRoot>),
    /// A signature in the chain does not verify.
    #[error(
        "a signature in the chain of `{id}` does not verify: it names our authority as issuer but was not signed by it"
    )]
    BadSignature {
        /// The ID that was presented.
        id: SpiffeId,
    },
    /// Past its notAfter.
    #[error(
        "the {what} of `{id}` expired {ago} ago, at {not_after}; its agent has stopped renewing it, or a clock is wrong"
    )]
    Expired {
        /// `SVID` or `intermediate CA`.
        what: &'static str,
        /// The ID that was presented.
        id: SpiffeId,
        /// How long ago.
        ago: String,
        /// RFC 3339.
        not_after: String,
    },
    /// Before its notBefore.
    #[error(
        "the {what} of `{id}` is valid only in {ahead}, from {not_before}; one of the two clocks is wrong"
    )]
    NotYetValid {
        /// `SVID` or `intermediate CA`.
        what: &'static str,
        /// The ID that was presented.
        id: SpiffeId,
        /// How far in the future.
        ahead: String,
        /// RFC 3339.
        not_before: String,
    },
    /// Any other breach of RFC 5280's path rules.
    #[error("the chain of `{id}` is not valid: {reason}")]
    InvalidChain {
        /// The ID that was presented.
        id: SpiffeId,
        /// The rule, in webpki's words or ours.
        reason: String,
    },
    /// Authentic, but not the one that is expected here.
    #[error("the peer is `{id}`; expected is {expected}")]
    IdNotAllowed {
        /// The verified ID.
        id: SpiffeId,
        /// Who would be accepted.
        expected: String,
    },
    /// Another key than the one that a hash names.
    #[error("the server's key has the SHA-256 {found}; expected is {expected}")]
    OtherKey {
        /// The hash of the key that was shown.
        found: String,
        /// The hash that is known.
        expected: String,
    },
}

/// The facts of [`X509Error::UntrustedRoot`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{id}` was signed by `{issuer}` (key {issuer_key}), which is not in our bundle of `{trust_domain}` (sequence {sequence}; keys {held}). Either our bundle is old, or the peer's authority is not the trust domain's"
)]
pub struct UntrustedRoot {
    /// The ID that was presented.
    pub id: SpiffeId,
    /// Its trust domain.
    pub trust_domain: String,
    /// Issuer of the last certificate of the chain, RFC 2253.
    pub issuer: String,
    /// Its authority key ID in hex, or `unknown`.
    pub issuer_key: String,
    /// Subject key IDs of our authorities, separated by commas.
    pub held: String,
    /// Sequence number of the bundle that we hold.
    pub sequence: u64,
}

impl X509Error {
    /// The stable word for logs, metric labels and the troubleshooting page.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoCertificate => Code::NoCertificate,
            Self::ChainTooLong { .. } => Code::ChainTooLong,
            Self::Malformed { .. } => Code::MalformedCertificate,
            Self::NoUriSan { .. } => Code::NoUriSan,
            Self::MultipleUriSans { .. } => Code::MultipleUriSan,
            Self::InvalidId { .. } => Code::InvalidSpiffeId,
            Self::NoPath { .. } => Code::NoPath,
            Self::LeafIsCa { .. } => Code::LeafIsCa,
            Self::LeafSigns { .. } => Code::LeafSignsCertificates,
            Self::LeafCannotSign { .. } => Code::LeafCannotSign,
            Self::UnknownTrustDomain { .. } => Code::UnknownTrustDomain,
            Self::EmptyBundle { .. } => Code::EmptyBundle,
            Self::UntrustedRoot(_) => Code::UntrustedRoot,
            Self::BadSignature { .. } => Code::BadSignature,
            Self::Expired { .. } => Code::Expired,
            Self::NotYetValid { .. } => Code::NotYetValid,
            Self::InvalidChain { .. } => Code::InvalidChain,
            Self::IdNotAllowed { .. } => Code::IdNotAllowed,
            Self::OtherKey { .. } => Code::PinMismatch,
        }
    }

    /// The ID that the peer presented, verified or not, when one could be read.
    #[must_use]
    pub fn presented_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::NoPath { id }
            | Self::LeafIsCa { id }
            | Self::LeafSigns { id, .. }
            | Self::LeafCannotSign { id }
            | Self::UnknownTrustDomain { id, .. }
            | Self::EmptyBundle { id, .. }
            | Self::BadSignature { id }
            | Self::Expired { id, .. }
            | Self::NotYetValid { id, .. }
            | Self::InvalidChain { id, .. }
            | Self::IdNotAllowed { id, .. } => Some(id),
            Self::UntrustedRoot(facts) => Some(&facts.id),
            _ => None,
        }
    }
}
