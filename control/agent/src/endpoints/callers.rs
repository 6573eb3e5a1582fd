//! Who calls, for every API that answers its callers by what they are.
//!
//! Owns the way from a connection to a caller whose selectors are known, and what somebody is told who gets nothing: the
//! caller little, the log and the admin socket why.

use std::{sync::Arc, time::Duration};

use svidecar_api::{WAIT_FOR_ENTRY, WAIT_HEADER};
use svidecar_code::Code;
use svidecar_id::SpiffeId;
use svidecar_process::{Throttle, clock, shares::Shares, source::Source};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, metadata::MetadataMap};

use super::{
    CallerInfo,
    stream::{End, Place},
};
use crate::{
    attest::{Attestation, Caller, WorkloadAttestor},
    entry::Entry,
    error::AttestError,
    manager::Manager,
    selector::SelectorSet,
    status::{Status as AgentStatus, SyncMode},
};

/// What a workload without an entry is told, in SPIRE's words: scripts look for them.
pub const NO_IDENTITY: &str = "no identity issued";

/// A workload that keeps asking in vain is in the log once in this time.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How often a workload is attested again of whom not all is known.
const ATTEST_AGAIN: Duration = Duration::from_secs(5);

/// How long a caller that asks to wait does so until there is a manager. Then it is told why there is none.
const MANAGER: Duration = Duration::from_secs(10);

/// Streams that wait for a first entry; users share them.
const MOST_WAITING: usize = 1024;

/// Identifies callers. Cheap to clone.
#[derive(Clone)]
pub struct Callers {
    /// None until the agent is attested.
    manager: watch::Receiver<Option<Arc<Manager>>>,
    status: watch::Receiver<AgentStatus>,
    attestor: WorkloadAttestor,
    /// Which refusals the log has just told.
    told: Arc<Throttle<(SelectorSet, &'static str)>>,
    /// Whose failures of attestation.
    failures: Arc<Throttle<(Source, Code)>>,
    waiting: Shares<u32>,
    shutdown: CancellationToken,
}

/// A caller, what is true of it, and who knows what it may have.
pub struct Known {
    /// Has the entries.
    pub manager: Arc<Manager>,
    /// What attestation found.
    pub found: Attestation,
    caller: Arc<Caller>,
    told: Arc<Throttle<(SelectorSet, &'static str)>>,
}

impl Callers {
    /// Callers are attested by `attestor`, and served once there is a manager.
    #[must_use]
    pub fn new(
        manager: watch::Receiver<Option<Arc<Manager>>>,
        status: watch::Receiver<AgentStatus>,
        attestor: WorkloadAttestor,
        shutdown: CancellationToken,
    ) -> Self {
        let (told, failures) = (Arc::new(Throttle::new(1, SAY_AGAIN)), Arc::new(Throttle::new(1, SAY_AGAIN)));
        Self { manager, status, attestor, told, failures, waiting: Shares::new(MOST_WAITING), shutdown }
    }

    /// Finds out who calls, by what the connection left in the request's extensions.
    ///
    /// # Errors
    /// What the caller is told when it is not known, or not served yet.
    pub async fn identify<T>(&self, request: &Request<T>, method: &'static str) -> Result<Known, Status> {
        let (metadata, extensions) = (request.metadata(), request.extensions());
        metrics::counter!("svidecar_agent_workload_api_requests_total", "method" => method).increment(1);
        let manager = self.manager(metadata).await?;
        let caller = match extensions.get::<CallerInfo>() {
            Some(Ok(caller)) => Arc::clone(caller),
            Some(Err(error)) => return Err(self.not_attested(error, Source::Unknown, method)),
            None => return Err(self.not_attested(&AttestError::NoCredentials, Source::Unknown, method)),
        };
        let source = Source::User(caller.uid());
        let found = self.attestor.attest(Arc::clone(&caller)).await;
        let found = found.map_err(|error| self.not_attested(&error, source, method))?;
        tracing::debug!(
            pid = caller.pid(), method, selectors = %found.selectors.without_secrets(), "workload attested"
        );
        Ok(Known { manager, told: self.told.clone(), caller, found })
    }

    /// Who has the entries. A caller that asks to wait has time until there is one.
    async fn manager(&self, metadata: &MetadataMap) -> Result<Arc<Manager>, Status> {
        let mut manager = self.manager.clone();
        if metadata.contains_key(WAIT_HEADER) {
            let there = async { manager.wait_for(Option::is_some).await.is_ok() };
            tokio::select! {
                _ = tokio::time::timeout(MANAGER, there) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
        let known = manager.borrow().clone();
        known.ok_or_else(|| {
            let problem = self.status.borrow().problem.clone();
            let problem = problem.unwrap_or_else(|| "it is not attested yet".into());
            Status::unavailable(format!("the agent is initializing: {problem}"))
        })
    }

    /// A place for a caller without an entry who asks to wait for one. None, and it is denied, when it does not ask, when it
    /// cannot be said that it has no entry, when the server does not push entries, so that asking again finds them sooner, or
    /// when its user has as many places as it may.
    #[must_use]
    pub fn place(&self, metadata: &MetadataMap, known: &Known) -> Option<Place> {
        let asks = metadata.get(WAIT_HEADER).is_some_and(|value| value == WAIT_FOR_ENTRY);
        if !asks || known.undecided().is_some() || self.status.borrow().sync_mode != SyncMode::Watch {
            return None;
        }
        self.waiting.take(known.caller.uid(), 1)
    }

    /// When the caller's stream has to end: at shutdown, with its process, or when more is known of the caller than the
    /// stream was begun with. What it has it keeps until it is back.
    #[must_use]
    pub fn end(&self, known: &Known) -> End {
        let (shutdown, attestor) = (self.shutdown.clone(), self.attestor.clone());
        let (caller, found) = (Arc::clone(&known.caller), known.found.clone());
        Box::pin(async move {
            tokio::select! {
                () = shutdown.cancelled() => Status::unavailable("the agent is shutting down"),
                () = caller.exited() => Status::permission_denied("the process that called has ended"),
                () = known_better(&attestor, &caller, &found), if !found.unanswered.is_empty() => {
                    let answered: Vec<_> = found.unanswered.iter().map(|one| one.answered).collect();
                    Status::unavailable(format!("{}; connect again for all identities", answered.join(", ")))
                }
            }
        })
    }

    /// Says in the log why a caller is not known, once in a while, and to the caller each time.
    fn not_attested(&self, error: &AttestError, source: Source, method: &'static str) -> Status {
        if let Some(leave) = self.failures.leave_for((source, error.code()), clock::monotonic()) {
            tracing::warn!(
                %error, code = error.code().name(), method, kept_back = leave.kept_back,
                "a caller could not be attested"
            );
        }
        metrics::counter!("svidecar_agent_attestation_failures_total", "code" => error.code().name())
            .increment(1);
        match error {
            // Reading failed; another try may do better.
            AttestError::Io { .. }
            | AttestError::SocketTable { .. }
            | AttestError::Busy { .. }
            | AttestError::Interrupted => {
                Status::unavailable(format!("could not resolve caller information: {error}"))
            }
            _ => Status::permission_denied(format!("could not resolve caller information: {error}")),
        }
    }
}

impl Known {
    /// Says in the log why, and to the workload that.
    #[must_use]
    pub fn denied(&self, method: &'static str) -> Status {
        if let Some(status) = self.undecided() {
            return status;
        }
        metrics::counter!("svidecar_agent_workload_api_denied_total", "method" => method).increment(1);
        let subject = (self.found.selectors.clone(), method);
        let Some(leave) = self.told.leave_for(subject, clock::monotonic()) else {
            return Status::permission_denied(NO_IDENTITY);
        };
        let explanation = self.manager.explain(&self.found.selectors);
        let pid = self.caller.pid();
        tracing::warn!(
            pid, method, code = Code::NoIdentity.name(), selectors = %self.found.selectors.without_secrets(),
            notes = self.found.notes.join("; "), kept_back = leave.kept_back,
            "no identity issued: {}; `svidecar-agent why --pid {pid}` says more", explanation.summary()
        );
        Status::permission_denied(NO_IDENTITY)
    }

    /// To be told that there is nothing, a workload must have been looked at whole: some entry might match if all had
    /// answered who were asked about it.
    fn undecided(&self) -> Option<Status> {
        let unanswered = &self.found.unanswered;
        let kinds: Vec<_> = unanswered.iter().map(|one| one.kind).collect();
        if kinds.is_empty() || !self.manager.lacks_only(&self.found.selectors, &kinds) {
            return None;
        }
        for one in unanswered {
            let code = one.code.name();
            metrics::counter!("svidecar_agent_attestation_failures_total", "code" => code).increment(1);
        }
        let reasons: Vec<_> = unanswered.iter().map(|one| one.reason.as_str()).collect();
        Some(Status::unavailable(format!(
            "the identity cannot be decided: {}; try again",
            reasons.join(", ")
        )))
    }

    /// Entries of the caller; of one ID only, if given.
    ///
    /// # Errors
    /// [`Self::denied`] when there are none.
    pub async fn entries(
        &self,
        method: &'static str,
        only: Option<&SpiffeId>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let mut entries = self.manager.matching(&self.found.selectors).await;
        if let Some(only) = only {
            entries.retain(|entry| entry.spiffe_id == *only);
        }
        if entries.is_empty() { Err(self.denied(method)) } else { Ok(entries) }
    }
}

/// Resolves when there are other selectors than those `found` while somebody did not answer.
async fn known_better(attestor: &WorkloadAttestor, caller: &Arc<Caller>, found: &Attestation) {
    loop {
        tokio::time::sleep(ATTEST_AGAIN).await;
        match attestor.attest(Arc::clone(caller)).await {
            Ok(again) if !again.unanswered.is_empty() => {}
            Ok(again) if again.selectors != found.selectors => return,
            // Nothing new, or nobody left to tell.
            Ok(_) | Err(_) => return std::future::pending().await,
        }
    }
}
