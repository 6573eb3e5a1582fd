//! What can go wrong when keys, requests, certificates and bundles are made or read.

use svidecar_code::Code;
use svidecar_id::{IdError, TrustDomain};

/// A key, request, CA certificate or bundle that cannot be made or used. Verification of peers and of
/// tokens has errors of its own: [`crate::x509::X509Error`] and [`crate::jwt::JwtError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The system's random source or the crypto library refused.
    #[error("the crypto library could not {operation}")]
    Crypto {
        /// What was tried, as a verb phrase.
        operation: &'static str,
    },
    /// Not an unencrypted PKCS#8 key of a supported type.
    #[error(
        "the private key cannot be read: expected an unencrypted PKCS#8 key of type ec-p256, ec-p384, rsa-2048 or rsa-4096"
    )]
    PrivateKey,
    /// Not a supported public key.
    #[error(
        "the public key is not supported ({reason}); use ec-p256, ec-p384, ec-p521 or RSA of 2048 to 8192 bits"
    )]
    PublicKey {
        /// What it is instead.
        reason: String,
    },
    /// A name of a key type that does not exist.
    #[error("`{name}` is not a key type; use ec-p256, ec-p384, rsa-2048 or rsa-4096")]
    UnknownKeyType {
        /// What was given.
        name: String,
    },
    /// The private key is not the one of the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// PEM text without the block that was looked for, or with a broken one.
    #[error("the PEM text is not usable: {reason}")]
    Pem {
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate that cannot be parsed.
    #[error("the certificate cannot be read: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },
    /// A signing request that cannot be parsed, is over the bound, or is not signed by its own key.
    #[error("the certificate signing request is not usable: {reason}")]
    Csr {
        /// What is wrong with it.
        reason: String,
    },
    /// A CA certificate that must not sign SVIDs of this trust domain.
    #[error("the certificate cannot be the authority: {reason}")]
    NotAnAuthority {
        /// What it lacks.
        reason: String,
    },
    /// The CA has expired or is not valid yet, so nothing that it signs could be valid.
    #[error(
        "the CA certificate is valid from {not_before} to {not_after}, and now it is {now}; prepare and activate a new one"
    )]
    AuthorityNotValid {
        /// Start of its life, RFC 3339.
        not_before: String,
        /// End of its life, RFC 3339.
        not_after: String,
        /// The time of the attempt, RFC 3339.
        now: String,
    },
    /// An SVID was asked for outside the authority's trust domain (X509-SVID §3.2).
    #[error(
        "`{id}` is not a member of the trust domain `{trust_domain}`, so this authority cannot sign for it"
    )]
    ForeignId {
        /// The ID that was asked for.
        id: String,
        /// The authority's trust domain.
        trust_domain: TrustDomain,
    },
    /// A workload's ID without a path (X509-SVID §3.1).
    #[error("`{id}` has no path; an SVID needs one, such as `{id}/my-service`")]
    NoPath {
        /// The ID that was asked for.
        id: String,
    },
    /// A lifetime of zero.
    #[error("the lifetime is zero; give one of at least a second")]
    ZeroTtl,
    /// A name that cannot be a DNS SAN.
    #[error("`{name}` is not a DNS name: {reason}")]
    DnsName {
        /// What was given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A name with a character that its certificate field cannot hold.
    #[error("`{value}` cannot be written as {field} of a certificate")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// A bundle document that cannot be used.
    #[error("the bundle is not usable: {reason}")]
    Bundle {
        /// What is wrong with it.
        reason: String,
    },
    /// A token cannot be made from these claims.
    #[error("the token cannot be made: {reason}")]
    Token {
        /// What is wrong with the claims.
        reason: &'static str,
    },
    /// Not a SPIFFE ID.
    #[error("`{text}` is not a SPIFFE ID: {error}")]
    Id {
        /// What was given.
        text: String,
        /// The rule that it breaks.
        error: IdError,
    },
    /// rustls refused settings or an identity.
    #[error("TLS cannot be set up: {reason}")]
    Tls {
        /// rustls' own words.
        reason: String,
    },
}

impl AuthorityError {
    /// One stable word for logs, metrics and the troubleshooting page.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Crypto { .. } => Code::CryptoFailed,
            Self::PrivateKey => Code::BadPrivateKey,
            Self::PublicKey { .. } => Code::UnsupportedPublicKey,
            Self::UnknownKeyType { .. } => Code::UnknownKeyType,
            Self::KeyMismatch => Code::KeyMismatch,
            Self::Pem { .. } => Code::BadPem,
            Self::Certificate { .. } => Code::MalformedCertificate,
            Self::Csr { .. } => Code::BadCsr,
            Self::NotAnAuthority { .. } => Code::NotAnAuthority,
            Self::AuthorityNotValid { .. } => Code::AuthorityNotValid,
            Self::ForeignId { .. } => Code::ForeignTrustDomain,
            Self::NoPath { .. } => Code::NoPath,
            Self::ZeroTtl => Code::ZeroTtl,
            Self::DnsName { .. } => Code::BadDnsName,
            Self::Field { .. } => Code::BadField,
            Self::Bundle { .. } => Code::BadBundle,
            Self::Token { .. } => Code::BadClaims,
            Self::Id { .. } => Code::InvalidSpiffeId,
            Self::Tls { .. } => Code::TlsSetup,
        }
    }
}
