//! Who calls, for every API that answers its callers by what they are.
//!
//! Owns the way from a connection to a caller whose selectors are known, and what somebody is told who gets nothing: the
//! caller little, the log and the admin socket why.

use std::{sync::Arc, time::Duration};

use http::Extensions;
use svidecar_code::Code;
use svidecar_id::SpiffeId;
use svidecar_process::{Throttle, clock, source::Source};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{CallerInfo, stream::End};
use crate::{
    attest::{Attestation, Caller, WorkloadAttestor},
    entry::Entry,
    error::AttestError,
    manager::Manager,
    selector::SelectorSet,
    status::Status as AgentStatus,
};

/// What a workload without an entry is told, in SPIRE's words: scripts look for them.
pub const NO_IDENTITY: &str = "no identity issued";

/// A workload that keeps asking in vain is in the log once in this time.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How often a workload is attested again of whom not all is known.
const ATTEST_AGAIN: Duration = Duration::from_secs(5);

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
        Self { manager, status, attestor, told, failures, shutdown }
    }

    /// Finds out who calls, by what the connection left in the request's `extensions`.
    ///
    /// # Errors
    /// What the caller is told when it is not known, or not served yet.
    pub async fn identify(&self, extensions: &Extensions, method: &'static str) -> Result<Known, Status> {
        metrics::counter!("svidecar_agent_workload_api_requests_total", "method" => method).increment(1);
        let Some(manager) = self.manager.borrow().clone() else {
            let problem =
                self.status.borrow().problem.clone().unwrap_or_else(|| "it is not attested yet".into());
            return Err(Status::unavailable(format!("the agent is initializing: {problem}")));
        };
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
