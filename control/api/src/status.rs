//! Denials with a reason that a program can read: SPIRE's `PermissionDeniedDetails` inside the
//! details of a gRPC status.

use prost::Message as _;
use tonic::{Code, Status};

pub use crate::spire::api::types::permission_denied_details::Reason;
use crate::{google::rpc, spire::api::types::PermissionDeniedDetails};

const DETAILS_TYPE: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// A PERMISSION_DENIED status that tells an agent what to do next.
#[must_use]
pub fn permission_denied(reason: Reason, message: impl Into<String>) -> Status {
    let message = message.into();
    let details = PermissionDeniedDetails { reason: reason.into() };
    let body = rpc::Status {
        code: Code::PermissionDenied.into(),
        message: message.clone(),
        details: vec![prost_types::Any { type_url: DETAILS_TYPE.to_owned(), value: details.encode_to_vec() }],
    };
    Status::with_details(Code::PermissionDenied, message, body.encode_to_vec().into())
}

/// The reason that a PERMISSION_DENIED status carries, when it carries one.
#[must_use]
pub fn permission_denied_reason(status: &Status) -> Option<Reason> {
    if status.code() != Code::PermissionDenied {
        return None;
    }
    let body = rpc::Status::decode(status.details()).ok()?;
    let detail = body.details.iter().find(|detail| detail.type_url == DETAILS_TYPE)?;
    Some(PermissionDeniedDetails::decode(detail.value.as_slice()).ok()?.reason())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_survives_the_trip() {
        let status = permission_denied(Reason::AgentBanned, "agent is banned");
        assert_eq!(status.message(), "agent is banned");
        assert_eq!(permission_denied_reason(&status), Some(Reason::AgentBanned));
    }

    #[test]
    fn the_bytes_are_those_of_the_published_error_model() {
        let status = permission_denied(Reason::AgentNotActive, "x");
        let mut expected = vec![0x08, 7, 0x12, 1, b'x', 0x1a, 65, 0x0a, 59];
        expected.extend_from_slice(DETAILS_TYPE.as_bytes());
        expected.extend_from_slice(&[0x12, 2, 0x08, 3]);
        assert_eq!(status.details(), expected);
    }

    #[test]
    fn a_plain_denial_has_no_reason() {
        assert_eq!(permission_denied_reason(&Status::permission_denied("no")), None);
        assert_eq!(
            permission_denied_reason(&Status::with_details(Code::PermissionDenied, "", vec![0xff].into())),
            None
        );
    }
}
