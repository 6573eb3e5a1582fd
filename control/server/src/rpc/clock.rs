//! The clock as administrators see it, and their word that it is right.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use svidecar_api::svidecar::server::v1::{
    AcceptClockRequest, ClockStatus, GetClockRequest, clock_server::Clock,
};
use svidecar_process::clock::{Doubt, DoubtKind};
use tonic::{Request, Response, Status};

use super::{gate::Caller, status};
use crate::state::State;

/// How long an administrator may look at the time before accepting it, in seconds.
const LOOKED_AT: u64 = 300;

/// The service.
pub struct ClockService(pub Arc<State>);

#[tonic::async_trait]
impl Clock for ClockService {
    async fn get_clock(&self, _: Request<GetClockRequest>) -> Result<Response<ClockStatus>, Status> {
        Ok(Response::new(self.status(self.0.guard.doubt().as_ref())))
    }

    async fn accept_clock(
        &self,
        request: Request<AcceptClockRequest>,
    ) -> Result<Response<ClockStatus>, Status> {
        let by = Caller::of(&request)?.peer;
        let (accepted, now) = (request.into_inner().now, self.0.clock.unix());
        if accepted.abs_diff(now) > LOOKED_AT {
            return Err(Status::failed_precondition(format!(
                "the clock shows {now} and not {accepted} (Unix seconds) any more; look at it again"
            )));
        }
        let doubt = self.0.guard.accept().await;
        let doubt = doubt.map_err(|error| status::store("failed to keep the clock's time", &error))?;
        if let Some(doubt) = doubt {
            tracing::warn!(%by, %doubt, "an administrator says that the clock is right; what has ended by it is deleted from now on");
        }
        Ok(Response::new(self.status(None)))
    }
}

impl ClockService {
    fn status(&self, doubt: Option<&Doubt>) -> ClockStatus {
        let now = self.0.clock.unix();
        let Some(doubt) = doubt else {
            return ClockStatus { now, believed: true, expected: now, ..ClockStatus::default() };
        };
        let settles_in = match doubt.kind {
            DoubtKind::JustBooted { left } => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            DoubtKind::Set(_) | DoubtKind::BeforeSeen | DoubtKind::Impossible => 0,
        };
        ClockStatus {
            now,
            believed: false,
            expected: seconds(doubt.expected),
            doubt: doubt.to_string(),
            settles_in,
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
