//! `svidecar.server.v1.Watch`: what an agent is authorized for, pushed to it when it changes.
//!
//! Nothing queues up: a stream remembers what it has sent, and when there is news it compares that with what is
//! now. So a slow agent gets fewer and larger steps, never an old one; and what changes because an entry above
//! changed comes out like any other difference.

mod difference;
mod resume;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::stream;
use svidecar_api::{
    status::{Reason, permission_denied},
    svidecar::server::v1::{WatchRequest, WatchResponse, watch_server::Watch},
};
use svidecar_authority::time::between;
use svidecar_process::clock;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use self::{
    difference::{Difference, View},
    resume::Remembered,
};
use super::gate::{Agent, Caller};
use crate::{state::State, telemetry::Watching};

/// Open streams of one agent: one is enough, a few may not have noticed yet that they have ended.
const MAX_STREAMS: usize = 8;

/// Longest wait of a stream, so that no timer overflows.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// The service.
pub struct WatchService {
    state: Arc<State>,
    remembered: Arc<Remembered>,
    shutdown: CancellationToken,
}

impl WatchService {
    /// Streams end when `shutdown` does.
    #[must_use]
    pub fn new(state: Arc<State>, shutdown: CancellationToken) -> Self {
        Self { state, remembered: Arc::default(), shutdown }
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let agent = Caller::agent_of(&request)?;
        let token = request.into_inner().resume_token;
        // Subscribed before the first look, so that nothing falls between.
        let changes = self.state.entries.subscribe(&agent.id, MAX_STREAMS).ok_or_else(|| {
            Status::resource_exhausted(format!("the agent has {MAX_STREAMS} open streams; one is enough"))
        })?;
        self.state.entries.current().await;
        let session = Session::begin(self, agent, changes, &token);
        let responses = stream::unfold(Some(session), |session| async {
            let mut session = session?;
            match session.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(session))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// One open stream.
struct Session {
    state: Arc<State>,
    remembered: Arc<Remembered>,
    shutdown: CancellationToken,
    agent: Agent,
    changes: watch::Receiver<()>,
    /// When the SVID ends that the stream was opened with.
    expires: Instant,
    /// What the agent has once all of `pending` is sent.
    sent: View,
    pending: Option<Difference>,
    _counted: Watching,
}

impl Session {
    fn begin(service: &WatchService, agent: Agent, changes: watch::Receiver<()>, token: &str) -> Self {
        let state = Arc::clone(&service.state);
        let now = View::of(&state, &agent.id);
        let (pending, resumed) = match service.remembered.take(&agent.id, token) {
            Some(before) => (before.difference(&now), true),
            None if !token.is_empty() && resume::matches(token, &now) => (Difference::default(), true),
            None => (now.whole(), false),
        };
        tracing::debug!(spiffe_id = %agent.id, resumed, entries = now.entry_count(), "agent watches");
        let life = between(state.clock.now(), agent.svid.not_after).min(FOREVER);
        Self {
            remembered: Arc::clone(&service.remembered),
            shutdown: service.shutdown.clone(),
            changes,
            expires: clock::timer() + life,
            sent: now,
            pending: Some(pending),
            _counted: Watching::begin(),
            state,
            agent,
        }
    }

    /// The next message; `None` when the stream ends well, and the agent may come again at once.
    async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        loop {
            if let Some(pending) = &mut self.pending {
                let mut response = pending.next_message();
                if !response.more {
                    response.resume_token = resume::token(self.state.entries.position(), &self.sent);
                    self.pending = None;
                }
                return Ok(Some(response));
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    return Err(Status::unavailable("the server is stopping; connect again"));
                }
                () = time::sleep_until(self.expires) => {
                    return Err(permission_denied(Reason::AgentExpired, "the agent's SVID has expired"));
                }
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return Err(Status::unavailable("the server is stopping; connect again"));
                    }
                }
            }
            if !self.is_still_active()? {
                return Ok(None);
            }
            let now = View::of(&self.state, &self.agent.id);
            let difference = self.sent.difference(&now);
            if !difference.is_empty() {
                self.pending = Some(difference);
            }
            self.sent = now;
        }
    }

    /// Whether the SVID of this stream is still the agent's; not when it has renewed, and uses the new one.
    fn is_still_active(&self) -> Result<bool, Status> {
        match self.state.entries.agent(&self.agent.id) {
            None => Err(permission_denied(Reason::AgentNotAttested, "the agent was deleted")),
            Some(agent) if agent.is_banned() => {
                Err(permission_denied(Reason::AgentBanned, "the agent was banned"))
            }
            Some(agent) => {
                Ok(agent.serial == self.agent.svid.serial || agent.new_serial == self.agent.svid.serial)
            }
        }
    }
}

/// What was sent is kept for the agent's next stream, so that this goes on where the last one ended.
impl Drop for Session {
    fn drop(&mut self) {
        if self.pending.is_none() {
            self.remembered.keep(&self.agent.id, std::mem::take(&mut self.sent));
        }
    }
}
