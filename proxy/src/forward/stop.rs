//! Why a request does not go its way to the end, and what its record and its client's codec get to know of it.

use svidecar_code::Code;

use crate::{
    http2::ErrorCode,
    message::{BodyError, refusal::Refusal},
    record::Recording,
    runtime::connections::Ending,
};

/// Why a request stops.
pub enum Stop {
    /// It gets an answer from us, if it got none yet.
    Refused(Refusal),
    /// The upstream gave it up before it answered, with this code of HTTP/2; or the answer from us.
    Reset(ErrorCode, Refusal),
    /// Nobody waits for the answer any more.
    Gone,
    /// The upstream failed in the middle of its answer.
    Broken(BodyError),
    /// It is cut from outside.
    Cut(Ending),
}

impl Stop {
    /// The code for a stream whose answer is not complete: the upstream's own, unless it would say that all is well, or
    /// that nothing was done.
    #[must_use]
    pub const fn reset_code(&self) -> ErrorCode {
        let code = match self {
            Self::Reset(code, _) => *code,
            Self::Broken(BodyError::Reset(code)) => ErrorCode(*code),
            _ => ErrorCode::INTERNAL_ERROR,
        };
        match code {
            ErrorCode::NO_ERROR | ErrorCode::REFUSED_STREAM => ErrorCode::INTERNAL_ERROR,
            code => code,
        }
    }

    /// Writes down why.
    pub fn note(self, record: &mut Recording) {
        match self {
            Self::Refused(refusal) | Self::Reset(_, refusal) => {
                record.fail(refusal.code, Some(refusal.detail));
            }
            Self::Gone => record.fail(Code::ClientClosed, None),
            Self::Broken(error) => record.fail(Code::UpstreamClosed, Some(error.to_string())),
            Self::Cut(ending) => record.fail(ending.code(), None),
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
