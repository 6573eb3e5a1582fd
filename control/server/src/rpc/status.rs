//! Errors as SPIRE words them: `WHAT: WHY` for what the caller can mend, only `WHAT` for what is not there.

use svidecar_api::spire::api::types;
use tonic::{Code, Status};

use crate::{limits::RateLimited, store::StoreError};

/// The caller sent something that cannot be taken.
pub fn invalid(what: &str, why: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{what}: {why}"))
}

/// The store refused or failed; `what` was to be done. What only we can mend is logged here.
pub fn store(what: &str, error: &StoreError) -> Status {
    let code = store_code(error);
    if code == Code::Internal {
        tracing::error!(code = error.code().name(), %error, "{what}");
    }
    Status::new(code, format!("{what}: {error}"))
}

fn store_code(error: &StoreError) -> Code {
    match error {
        StoreError::NotFound { .. } => Code::NotFound,
        StoreError::AlreadyExists { .. } => Code::AlreadyExists,
        StoreError::Invalid(_) | StoreError::BadPageToken(_) => Code::InvalidArgument,
        StoreError::UnknownFederatedBundle { .. } | StoreError::BundleInUse { .. } => {
            Code::FailedPrecondition
        }
        StoreError::AgentBanned { .. } => Code::PermissionDenied,
        StoreError::Closed => Code::Unavailable,
        _ => Code::Internal,
    }
}

impl From<RateLimited> for Status {
    fn from(limited: RateLimited) -> Self {
        Self::resource_exhausted(limited.to_string())
    }
}

/// The result of one item of a batch that went well.
pub fn ok() -> Option<types::Status> {
    Some(types::Status { code: Code::Ok.into(), message: "OK".to_owned() })
}

/// The result of one item of a batch that did not.
pub fn item(status: &Status) -> Option<types::Status> {
    Some(types::Status { code: status.code().into(), message: status.message().to_owned() })
}
