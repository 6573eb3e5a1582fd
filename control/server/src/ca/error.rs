//! Failures of the certificate authority.

use std::path::PathBuf;

use svidecar_authority::AuthorityError;
use svidecar_code::Code;
use svidecar_process::private::Exposed;

use crate::store::StoreError;

/// Why the authority cannot start, rotate or sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A lifetime that the CA cannot give in full.
    #[error(
        "`{setting}` is {ttl}, but a CA with `ca_ttl` {ca_ttl} can give an SVID at most {most} of life in full (a sixth of its own, and never over 7 days). {remedy}"
    )]
    Ttl {
        /// The setting's key.
        setting: &'static str,
        /// Its value.
        ttl: String,
        /// The CA's lifetime.
        ca_ttl: String,
        /// The most that would work.
        most: String,
        /// What to set.
        remedy: String,
    },
    /// A CA that would be replaced faster than anyone can follow.
    #[error("`ca_ttl` is {ca_ttl}; the least that can be rotated without haste is 1m")]
    CaTtl {
        /// The CA's lifetime.
        ca_ttl: String,
    },
    /// A subject that cannot be written.
    #[error("`ca_subject.{field}` has {count} values; a CA certificate takes one")]
    Subject {
        /// The field's key.
        field: &'static str,
        /// How many there are.
        count: usize,
    },
    /// A key file or its directory.
    #[error("cannot {action} {}: {reason}", path.display())]
    Keys {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A key or the directory of the keys is not ours alone.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The journal in the store.
    #[error(
        "the CA journal in the database cannot be read: {reason}; if it came from a newer version, run that version"
    )]
    Journal {
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked to be done to an authority cannot be.
    #[error("{0}")]
    ByHand(String),
    /// What was asked of the bootstrap keys cannot be.
    #[error("bootstrap keys: {0}")]
    BootstrapKeys(String),
    /// JWT-SVIDs are switched off.
    #[error("JWT-SVIDs are disabled on this server (`disable_jwt_svids`)")]
    JwtDisabled,
    /// The token key has expired and could not be replaced.
    #[error("the key that signs JWT-SVIDs has expired and its successor is not there yet; the log says why")]
    JwtKeyExpired,
    /// Nothing has renewed the server's own SVID.
    #[error(
        "the server's own SVID should have been renewed long ago; the log says why the rotation of keys fails"
    )]
    RenewalOverdue,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key, certificate or token cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl CaError {
    /// The key of the setting that is to blame, if one is.
    #[must_use]
    pub fn setting(&self) -> Option<String> {
        match self {
            Self::Ttl { setting, .. } => Some((*setting).to_owned()),
            Self::CaTtl { .. } => Some("ca_ttl".to_owned()),
            Self::Subject { field, .. } => Some(format!("ca_subject.{field}")),
            _ => None,
        }
    }

    /// One stable word for logs, metrics and the troubleshooting page.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Ttl { .. } => Code::TtlOverCa,
            Self::CaTtl { .. } => Code::CaTtlTooShort,
            Self::Subject { .. } => Code::CaSubject,
            Self::Keys { .. } => Code::CaKeys,
            Self::Exposed(error) => error.code(),
            Self::Journal { .. } => Code::CaJournal,
            Self::ByHand(_) | Self::BootstrapKeys(_) => Code::Invalid,
            Self::JwtDisabled => Code::JwtSvidsDisabled,
            Self::JwtKeyExpired => Code::JwtKeyExpired,
            Self::RenewalOverdue => Code::RenewalOverdue,
            Self::Store(error) => error.code(),
            Self::Authority(error) => error.code(),
            Self::Stopping => Code::Stopping,
        }
    }
}
