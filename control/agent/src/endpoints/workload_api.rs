//! The SPIFFE Workload API, X.509 and JWT profiles.
//!
//! Owns the calls of the standard and their codes (SPIFFE Workload Endpoint §6). A workload never learns
//! about entries of others: why it got nothing is in the agent's log and on the admin socket.

use std::sync::Arc;

use svidecar_api::{
    WORKLOAD_API_HEADER, claims,
    workload::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
        ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse,
        X509svidRequest, X509svidResponse, spiffe_workload_api_server::SpiffeWorkloadApi,
    },
};
use svidecar_authority::{bundle::BundleSet, jwt};
use svidecar_id::SpiffeId;
use svidecar_process::clock;
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    callers::{Callers, Known, NO_IDENTITY},
    stream::{Messages, Next, Place, follow},
};
use crate::{cache::Update, entry::Entry, error::AgentError, manager::Manager};

/// Audiences in one request, and their length in bytes.
const MAX_AUDIENCES: usize = 64;
const MAX_AUDIENCE_BYTES: usize = 2048;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct WorkloadApi {
    callers: Callers,
    /// Whether processes without an identity may fetch bundles and validate tokens.
    allow_unauthenticated_verifiers: bool,
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

impl WorkloadApi {
    /// Serves these callers.
    #[must_use]
    pub fn new(callers: Callers, allow_unauthenticated_verifiers: bool) -> Self {
        Self { callers, allow_unauthenticated_verifiers }
    }

    /// Nothing for a caller that has entries, a place to wait in for one that has none and asks to wait.
    fn place(
        &self,
        known: &Known,
        updates: &watch::Receiver<Arc<Update>>,
        (method, metadata): (&'static str, &MetadataMap),
    ) -> Result<Option<Place>, Status> {
        if !updates.borrow().entries.is_empty() {
            return Ok(None);
        }
        let place = self.callers.place(metadata, known);
        place.map(Some).ok_or_else(|| known.denied(method))
    }

    /// Streams bundles: to workloads with an identity, and to others if that is allowed.
    async fn bundles<T>(
        &self,
        known: Known,
        (method, metadata): (&'static str, &MetadataMap),
        entitled: fn(&Update) -> Next<T>,
        anyone: fn(&Update) -> Next<T>,
    ) -> Result<Response<Messages<T>>, Status>
    where
        T: Clone + PartialEq + Send + Sync + 'static,
    {
        let updates = known.manager.subscribe(&known.found.selectors).await;
        let end = self.callers.end(&known);
        if self.allow_unauthenticated_verifiers {
            return Ok(Response::new(follow(updates, anyone, end, None)));
        }
        let place = self.place(&known, &updates, (method, metadata))?;
        Ok(Response::new(follow(updates, entitled, end, place)))
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
        let known = self.callers.identify(&request, method).await?;
        let updates = known.manager.subscribe(&known.found.selectors).await;
        let place = self.place(&known, &updates, (method, request.metadata()))?;
        Ok(Response::new(follow(updates, x509_svids, self.callers.end(&known), place)))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let method = "FetchX509Bundles";
        let known = self.callers.identify(&request, method).await?;
        let asked = (method, request.metadata());
        self.bundles(known, asked, x509_bundles, x509_bundles_for_anyone).await
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
        let known = self.callers.identify(&request, method).await?;
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
        let known = self.callers.identify(&request, method).await?;
        let asked = (method, request.metadata());
        self.bundles(known, asked, jwt_bundles, jwt_bundles_for_anyone).await
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
        let known = self.callers.identify(&request, method).await?;
        let entries = match known.entries(method, None).await {
            Err(_) if self.allow_unauthenticated_verifiers => Vec::new(),
            entries => entries?,
        };
        let bundles = bundles_of(&known.manager, &entries);
        let now = crate::svid::unix_time(clock::wall());
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
