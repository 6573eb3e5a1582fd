//! The SPIFFE Workload API, X.509 and JWT profiles.
//!
//! Owns the calls of the standard and their codes (SPIFFE Workload Endpoint §6). A workload never learns
//! about entries of others: why it got nothing is in the agent's log and on the admin socket.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use svidecar_api::{
    WORKLOAD_API_HEADER, claims,
    workload::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
        ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse,
        X509svidRequest, X509svidResponse, spiffe_workload_api_server::SpiffeWorkloadApi,
    },
};
use svidecar_authority::{bundle::BundleSet, jwt};
use svidecar_code::Code;
use svidecar_id::SpiffeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    CallerInfo,
    quiet::OncePer,
    stream::{End, Messages, Next, follow},
};
use crate::{
    attest::{Attestation, Caller, WorkloadAttestor, docker},
    cache::Update,
    entry::Entry,
    error::{AgentError, AttestError},
    manager::Manager,
    selector::SelectorSet,
    status::Status as AgentStatus,
};

/// What a workload without an entry is told, in SPIRE's words: scripts look for them.
const NO_IDENTITY: &str = "no identity issued";

/// Audiences in one request, and their length in bytes.
const MAX_AUDIENCES: usize = 64;
const MAX_AUDIENCE_BYTES: usize = 2048;

/// A workload that keeps asking in vain is in the log once in this time.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How often a workload is attested again of whose container the engine did not answer.
const ATTEST_AGAIN: Duration = Duration::from_secs(5);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct WorkloadApi {
    /// None until the agent is attested.
    manager: watch::Receiver<Option<Arc<Manager>>>,
    status: watch::Receiver<AgentStatus>,
    attestor: WorkloadAttestor,
    /// Whether processes without an identity may fetch bundles and validate tokens.
    allow_unauthenticated_verifiers: bool,
    /// Which refusals the log has just told.
    told: OncePer<(SelectorSet, &'static str)>,
    shutdown: CancellationToken,
}

/// Requires exactly one `workload.spiffe.io: true` (Workload Endpoint §3): a request that a browser or a
/// confused proxy was made to send does not have it.
///
/// # Errors
/// InvalidArgument without it.
pub fn check_header(request: Request<()>) -> Result<Request<()>, Status> {
    let mut values = request.metadata().get_all(WORKLOAD_API_HEADER).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value.as_encoded_bytes() == b"true" => Ok(request),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

/// A caller with its manager.
struct Known {
    manager: Arc<Manager>,
    told: OncePer<(SelectorSet, &'static str)>,
    caller: Arc<Caller>,
    found: Attestation,
}

impl WorkloadApi {
    /// Serves what `manager` has once it is there.
    #[must_use]
    pub fn new(
        manager: watch::Receiver<Option<Arc<Manager>>>,
        status: watch::Receiver<AgentStatus>,
        attestor: WorkloadAttestor,
        allow_unauthenticated_verifiers: bool,
        shutdown: CancellationToken,
    ) -> Self {
        let told = OncePer::new(SAY_AGAIN);
        Self { manager, status, attestor, allow_unauthenticated_verifiers, told, shutdown }
    }

    /// Finds out who calls.
    async fn identify<T>(&self, request: &Request<T>, method: &'static str) -> Result<Known, Status> {
        metrics::counter!("svidecar_agent_workload_api_requests_total", "method" => method).increment(1);
        let Some(manager) = self.manager.borrow().clone() else {
            let problem =
                self.status.borrow().problem.clone().unwrap_or_else(|| "it is not attested yet".into());
            return Err(Status::unavailable(format!("the agent is initializing: {problem}")));
        };
        let caller = match request.extensions().get::<CallerInfo>() {
            Some(Ok(caller)) => Arc::clone(caller),
            Some(Err(error)) => return Err(not_attested(error, method)),
            None => return Err(not_attested(&AttestError::NoCredentials, method)),
        };
        let found = self.attestor.attest(Arc::clone(&caller)).await;
        let found = found.map_err(|error| not_attested(&error, method))?;
        tracing::debug!(
            pid = caller.pid(), method, selectors = %found.selectors.without_secrets(), "workload attested"
        );
        Ok(Known { manager, told: self.told.clone(), caller, found })
    }

    /// When the caller's stream has to end: at shutdown, or when more is known of the caller than the stream
    /// was begun with. What it has it keeps until it is back.
    fn end(&self, known: &Known) -> End {
        let (shutdown, attestor) = (self.shutdown.clone(), self.attestor.clone());
        let (caller, found) = (Arc::clone(&known.caller), known.found.clone());
        Box::pin(async move {
            tokio::select! {
                () = shutdown.cancelled() => Status::unavailable("the agent is shutting down"),
                () = known_better(&attestor, &caller, &found), if found.unanswered.is_some() => {
                    Status::unavailable("the engine of the caller's container answers again; connect again for all identities")
                }
            }
        })
    }

    /// Streams bundles: to workloads with an identity, and to others if that is allowed.
    async fn bundles<T>(
        &self,
        known: Known,
        method: &'static str,
        entitled: fn(&Update) -> Next<T>,
        anyone: fn(&Update) -> Next<T>,
    ) -> Result<Response<Messages<T>>, Status>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        let updates = known.manager.subscribe(&known.found.selectors).await;
        let end = self.end(&known);
        if self.allow_unauthenticated_verifiers {
            return Ok(Response::new(follow(updates, anyone, end)));
        }
        if updates.borrow().entries.is_empty() {
            return Err(known.denied(method));
        }
        Ok(Response::new(follow(updates, entitled, end)))
    }
}

impl Known {
    /// Says in the log why, and to the workload that.
    fn denied(&self, method: &'static str) -> Status {
        if let Some(status) = self.undecided() {
            return status;
        }
        metrics::counter!("svidecar_agent_workload_api_denied_total", "method" => method).increment(1);
        if !self.told.allows((self.found.selectors.clone(), method), Instant::now()) {
            return Status::permission_denied(NO_IDENTITY);
        }
        let explanation = self.manager.explain(&self.found.selectors);
        let pid = self.caller.pid();
        tracing::warn!(
            pid, method, code = Code::NoIdentity.name(), selectors = %self.found.selectors.without_secrets(),
            notes = self.found.notes.join("; "),
            "no identity issued: {}; `svidecar-agent why --pid {pid}` says more", explanation.summary()
        );
        Status::permission_denied(NO_IDENTITY)
    }

    /// To be told that there is nothing, a workload must have been looked at whole: some entry might match if the
    /// engine of its container answered.
    fn undecided(&self) -> Option<Status> {
        let reason = self.found.unanswered.as_ref()?;
        if !self.manager.lacks_only(&self.found.selectors, docker::KIND) {
            return None;
        }
        let code = Code::EngineUnavailable.name();
        metrics::counter!("svidecar_agent_attestation_failures_total", "code" => code).increment(1);
        Some(Status::unavailable(format!("the identity cannot be decided: {reason}; try again")))
    }

    /// Entries of the caller; of one ID only, if given.
    async fn entries(
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

/// Resolves when there are other selectors than those `found` while an engine did not answer.
async fn known_better(attestor: &WorkloadAttestor, caller: &Arc<Caller>, found: &Attestation) {
    loop {
        tokio::time::sleep(ATTEST_AGAIN).await;
        match attestor.attest(Arc::clone(caller)).await {
            Ok(again) if again.unanswered.is_some() => {}
            Ok(again) if again.selectors != found.selectors => return,
            // Nothing new, or nobody left to tell.
            Ok(_) | Err(_) => return std::future::pending().await,
        }
    }
}

fn not_attested(error: &AttestError, method: &'static str) -> Status {
    tracing::warn!(%error, code = error.code().name(), method, "a caller could not be attested");
    metrics::counter!("svidecar_agent_attestation_failures_total", "code" => error.code().name())
        .increment(1);
    match error {
        // Reading failed; another try may do better.
        AttestError::Io { .. } | AttestError::SocketTable { .. } | AttestError::Interrupted => {
            Status::unavailable(format!("could not resolve caller information: {error}"))
        }
        _ => Status::permission_denied(format!("could not resolve caller information: {error}")),
    }
}

fn x509_svids(update: &Update) -> Next<X509svidResponse> {
    if update.entries.is_empty() {
        return Next::Denied(Status::permission_denied(NO_IDENTITY));
    }
    match &update.x509 {
        // While one of several is being signed, the others wait for it: a first message is complete.
        Some(message) if update.pending == 0 => Next::Full(Arc::clone(message)),
        _ => {
            let reason = update.failure.as_deref().unwrap_or("its X509-SVID is being signed");
            Next::Soon(Status::unavailable(format!("the identity is not ready: {reason}")))
        }
    }
}

fn x509_bundles(update: &Update) -> Next<X509BundlesResponse> {
    match update.entries.is_empty() {
        true => Next::Denied(Status::permission_denied(NO_IDENTITY)),
        false => x509_bundles_for_anyone(update),
    }
}

fn x509_bundles_for_anyone(update: &Update) -> Next<X509BundlesResponse> {
    Next::Full(Arc::clone(&update.x509_bundles))
}

fn jwt_bundles(update: &Update) -> Next<JwtBundlesResponse> {
    match update.entries.is_empty() {
        true => Next::Denied(Status::permission_denied(NO_IDENTITY)),
        false => jwt_bundles_for_anyone(update),
    }
}

fn jwt_bundles_for_anyone(update: &Update) -> Next<JwtBundlesResponse> {
    Next::Full(Arc::clone(&update.jwt_bundles))
}

/// A mandatory field at its default is InvalidArgument (Workload API §4.5).
fn check_audience(audience: &[String]) -> Result<(), Status> {
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        return Err(Status::invalid_argument("audience must be specified"));
    }
    if audience.len() > MAX_AUDIENCES || audience.iter().any(|name| name.len() > MAX_AUDIENCE_BYTES) {
        return Err(Status::invalid_argument(format!(
            "at most {MAX_AUDIENCES} audiences of {MAX_AUDIENCE_BYTES} bytes are accepted"
        )));
    }
    Ok(())
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let method = "FetchX509SVID";
        let known = self.identify(&request, method).await?;
        let updates = known.manager.subscribe(&known.found.selectors).await;
        if updates.borrow().entries.is_empty() {
            return Err(known.denied(method));
        }
        Ok(Response::new(follow(updates, x509_svids, self.end(&known))))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let method = "FetchX509Bundles";
        let known = self.identify(&request, method).await?;
        self.bundles(known, method, x509_bundles, x509_bundles_for_anyone).await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let method = "FetchJWTSVID";
        check_audience(&request.get_ref().audience)?;
        let only = match request.get_ref().spiffe_id.as_str() {
            "" => None,
            text => Some(SpiffeId::parse(text).map_err(|error| {
                Status::invalid_argument(format!("invalid requested SPIFFE ID: {error}"))
            })?),
        };
        let known = self.identify(&request, method).await?;
        let entries = known.entries(method, only.as_ref()).await?;
        let audience = &request.get_ref().audience;
        let tokens = entries.iter().map(|entry| known.manager.token(entry, audience));
        let tokens = futures_util::future::try_join_all(tokens).await.map_err(|error| no_token(&error))?;
        let svids = entries
            .iter()
            .zip(tokens)
            .map(|(entry, token)| Jwtsvid {
                spiffe_id: entry.spiffe_id.to_string(),
                svid: token.text.to_string(),
                hint: entry.hint.clone(),
            })
            .collect();
        Ok(Response::new(JwtsvidResponse { svids }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let method = "FetchJWTBundles";
        let known = self.identify(&request, method).await?;
        self.bundles(known, method, jwt_bundles, jwt_bundles_for_anyone).await
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let method = "ValidateJWTSVID";
        let ValidateJwtsvidRequest { audience, svid } = request.get_ref();
        check_audience(std::slice::from_ref(audience))?;
        if svid.is_empty() {
            return Err(Status::invalid_argument("svid must be specified"));
        }
        let known = self.identify(&request, method).await?;
        let entries = match known.entries(method, None).await {
            Err(_) if self.allow_unauthenticated_verifiers => Vec::new(),
            entries => entries?,
        };
        let bundles = bundles_of(&known.manager, &entries);
        let now = crate::svid::unix_time(SystemTime::now());
        let token = jwt::validate(svid, &[audience], &bundles, now)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(ValidateJwtsvidResponse {
            spiffe_id: token.id.to_string(),
            claims: Some(claims::to_struct(token.claims)),
        }))
    }
}

/// The bundles that workloads with `entries` may validate by: the own one and those they federate with.
fn bundles_of(manager: &Manager, entries: &[Arc<Entry>]) -> BundleSet {
    let all = manager.bundles();
    let own = std::iter::once(&manager.link.address().trust_domain);
    let mut set = BundleSet::new();
    for bundle in
        own.chain(entries.iter().flat_map(|entry| &entry.federates_with)).filter_map(|td| all.get(td))
    {
        set.insert(Arc::clone(bundle));
    }
    set
}

fn no_token(error: &AgentError) -> Status {
    match error {
        AgentError::Refused { status, .. } if status.code() == tonic::Code::PermissionDenied => {
            Status::permission_denied(status.message())
        }
        AgentError::Refused { status, .. } if status.code() == tonic::Code::InvalidArgument => {
            Status::invalid_argument(status.message())
        }
        _ => Status::unavailable(format!("could not fetch JWT-SVID: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(values: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        for value in values {
            request.metadata_mut().append(WORKLOAD_API_HEADER, value.parse().unwrap());
        }
        request
    }

    /// H4
    #[test]
    fn exactly_one_header_with_exactly_true_is_required() {
        assert!(check_header(request(&["true"])).is_ok());
        for values in [&[][..], &["True"], &["false"], &["true", "true"], &["true, true"], &[""]] {
            let status = check_header(request(values)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{values:?}");
        }
    }

    /// H15
    #[test]
    fn an_audience_is_mandatory_and_bounded() {
        assert!(check_audience(&["a".into()]).is_ok());
        let too_many = vec!["a".to_owned(); MAX_AUDIENCES + 1];
        for audience in [vec![], vec![String::new()], vec!["a".repeat(MAX_AUDIENCE_BYTES + 1)], too_many] {
            assert_eq!(check_audience(&audience).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }
}
