//! Pushed changes: `svidecar.server.v1.Watch`.

use std::sync::Arc;

use svidecar_api::svidecar::server::v1::{WatchRequest, WatchResponse};
use svidecar_process::clock;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{Ended, Sync, at, fetch::read_entries};
use crate::{
    cache::{Change, bundle_from_wire},
    error::AgentError,
    server::CALL_TIMEOUT,
    status::SyncMode,
};

const WHAT: &str = "Watch";

/// Entries that one change set may have; more is not what a server sends to one agent.
const MAX_ENTRIES: usize = 2_000_000;

impl Sync {
    /// Follows pushed changes until the stream ends.
    pub(super) async fn follow(&mut self, shutdown: &CancellationToken) -> Result<Ended, AgentError> {
        let mut sessions = self.manager.link.sessions();
        let session = Arc::clone(&sessions.borrow_and_update());
        let mut client = session.watch();
        let request = WatchRequest { resume_token: self.resume_token.clone() };
        let answer = tokio::select! {
            () = shutdown.cancelled() => return Ok(Ended::Stopped),
            answer = tokio::time::timeout(CALL_TIMEOUT, client.watch(request)) => answer,
        };
        let mut stream = match answer {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) if status.code() == Code::Unimplemented => return Ok(Ended::NoPush),
            Ok(Err(status)) => return Err(session.error(WHAT, status)),
            Err(_) => return Err(AgentError::Late { what: WHAT, after: CALL_TIMEOUT }),
        };
        if !self.resume_token.is_empty() {
            // Nothing to say is an answer too: what we have is the server's state.
            self.connected(SyncMode::Watch).await;
        }
        let mut pending = Pending::default();
        loop {
            let lookup = self.next_lookup();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Ended::Stopped),
                _ = sessions.changed() => return Ok(Ended::NewIdentity),
                message = stream.message() => match message {
                    Ok(Some(message)) => self.take(message, &mut pending).await?,
                    Ok(None) => return Ok(Ended::Closed),
                    // A server without the service may say so only once the stream is read.
                    Err(status) if status.code() == Code::Unimplemented => return Ok(Ended::NoPush),
                    Err(status) => return Err(session.error(WHAT, status)),
                },
                Some(waiting) = self.lookups.recv() => self.waiting.push(waiting),
                // Asked on the same task that applies changes. If the answer is ahead of the stream, the stream begins anew.
                () = at(lookup), if pending.is_empty() => if self.look_up().await? {
                    return Ok(Ended::Overtaken);
                },
            }
        }
    }

    /// Collects a change set and applies it when it is whole.
    async fn take(&mut self, message: WatchResponse, pending: &mut Pending) -> Result<(), AgentError> {
        let received = clock::wall();
        let more = message.more;
        let resume_token = message.resume_token.clone();
        pending.add(message)?;
        if more {
            return Ok(());
        }
        let change = std::mem::take(pending).into_change();
        let applied = self.manager.apply(change);
        if !resume_token.is_empty() {
            self.resume_token = resume_token;
        }
        self.connected(SyncMode::Watch).await;
        if applied.changed() {
            tracing::debug!(
                created = applied.created,
                updated = applied.updated,
                deleted = applied.deleted,
                bundles = applied.bundles,
                took_us = clock::wall().duration_since(received).unwrap_or_default().as_micros() as u64,
                "changes applied"
            );
        }
        Ok(())
    }
}

/// A change set that is not whole yet.
#[derive(Default)]
struct Pending {
    change: Change,
    messages: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.messages == 0
    }

    fn add(&mut self, message: WatchResponse) -> Result<(), AgentError> {
        self.messages += 1;
        self.change.snapshot |= message.snapshot;
        if self.change.entries.len() + message.entries.len() > MAX_ENTRIES {
            let reason = format!("a change set has more than {MAX_ENTRIES} entries");
            return Err(AgentError::BadAnswer { what: WHAT, reason });
        }
        self.change.entries.extend(read_entries(message.entries));
        self.change.deleted_entries.extend(message.deleted_entry_ids.into_iter().map(Into::into));
        for bundle in message.bundles {
            match bundle_from_wire(bundle) {
                Ok(bundle) => self.change.bundles.push(bundle),
                Err(reason) => tracing::warn!(error = reason, "a bundle from the server cannot be used"),
            }
        }
        for name in message.deleted_bundles {
            self.change.deleted_bundles.extend(svidecar_id::TrustDomain::parse(&name).ok());
        }
        Ok(())
    }

    fn into_change(self) -> Change {
        self.change
    }
}
