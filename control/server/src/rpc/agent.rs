//! The Agent service: joining, renewing, and what administrators do with agents.

use std::sync::Arc;

use svidecar_api::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, BanAgentRequest, CountAgentsRequest,
        CountAgentsResponse, CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
        ListAgentsResponse, PostStatusRequest, PostStatusResponse, RenewAgentRequest, RenewAgentResponse,
        agent_server::Agent, attest_agent_request, attest_agent_response,
    },
    types,
};
use svidecar_api::{
    bootstrap,
    status::{Reason, permission_denied},
};
use svidecar_authority::csr::Csr;
use svidecar_id::SpiffeId;
use tokio::time::{self, Duration};
use tonic::{Request, Response, Status, Streaming};

use super::{agent_fields, gate::Caller, join_token, status, svid};
use crate::{
    attest::{self, Attempt, AttestError, Attested, Attestor, membership},
    ids,
    peer::Peer,
    state::State,
    store::{Eviction, PageRequest, Removed, StoreError},
};

/// What an agent is told when the CA cannot sign for it.
const SIGNING_FAILED: &str = "failed to sign X509 SVID";

/// Longest version that an agent may report, in bytes, as in SPIRE.
const MAX_VERSION_BYTES: usize = 255;

/// How long an unauthenticated caller may take to say what it wants.
const ATTEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
pub struct AgentService(pub Arc<State>);

#[tonic::async_trait]
impl Agent for AgentService {
    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let filter = agent_fields::count_filter(request.into_inner().filter)?;
        let count = self.0.store.count_agents(filter).await;
        let count = count.map_err(|error| status::store("failed to count agents", &error))?;
        Ok(Response::new(CountAgentsResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let filter = agent_fields::list_filter(request.filter)?;
        let page =
            PageRequest { size: u32::try_from(request.page_size).unwrap_or(0), token: request.page_token };
        let page = self.0.store.list_agents(filter, page).await;
        let page = page.map_err(|error| status::store("failed to list agents", &error))?;
        let mask = request.output_mask.as_ref();
        Ok(Response::new(ListAgentsResponse {
            agents: page.items.iter().map(|agent| agent_fields::to_proto(agent, mask)).collect(),
            next_page_token: page.next,
        }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Result<Response<types::Agent>, Status> {
        let request = request.into_inner();
        let id = self.agent_id(request.id.as_ref())?;
        let found = self.0.store.get_agent(&id).await;
        let found = found.map_err(|error| status::store("failed to fetch agent", &error))?;
        let agent = found.ok_or_else(|| Status::not_found("agent not found"))?;
        Ok(Response::new(agent_fields::to_proto(&agent, request.output_mask.as_ref())))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let by = Caller::of(&request)?.peer;
        let id = self.agent_id(request.into_inner().id.as_ref())?;
        match self.0.store.delete_agent(&id, self.eviction(&by)).await {
            Ok(removed) => {
                tracing::info!(spiffe_id = %id, %by, "agent deleted");
                log_entries(&removed, &by);
                Ok(Response::new(()))
            }
            Err(StoreError::NotFound { .. }) => Err(Status::not_found("agent not found")),
            Err(error) => Err(status::store("failed to remove agent", &error)),
        }
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let by = Caller::of(&request)?.peer;
        let id = self.agent_id(request.into_inner().id.as_ref())?;
        match self.0.store.ban_agent(&id, self.eviction(&by)).await {
            Ok(removed) => {
                tracing::info!(spiffe_id = %id, %by, "agent banned");
                log_entries(&removed, &by);
                Ok(Response::new(()))
            }
            Err(StoreError::NotFound { .. }) => Err(Status::not_found("agent not found")),
            Err(error) => Err(status::store("failed to ban agent", &error)),
        }
    }

    type AttestAgentStream = tokio_stream::Once<Result<AttestAgentResponse, Status>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let peer = Caller::of(&request)?.peer;
        let mut stream = request.into_inner();
        let first = time::timeout(ATTEST_TIMEOUT, stream.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no attestation data within 10 seconds"))??;
        let (data, params) = attest_params(first.and_then(|request| request.step))
            .map_err(|why| status::invalid("malformed param", why))?;
        let attestor = Attestor::named(&data.r#type).map_err(refused)?;
        let attempt = Attempt { payload: &data.payload, csr: &params.csr, peer: &peer };
        let Attested { svid, can_reattest, membership } =
            attestor.attest(&self.0, attempt).await.map_err(refused)?;
        let svid = Some(svid::x509_to_proto(&svid, ""));
        let result = attest_agent_response::Result { svid, reattestable: can_reattest };
        let step = Some(attest_agent_response::Step::Result(result));
        let mut answer = Response::new(tokio_stream::once(Ok(AttestAgentResponse { step })));
        bootstrap::put_membership(answer.metadata_mut(), &membership.unwrap_or_default());
        Ok(answer)
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        let agent = Caller::agent_of(&request)?;
        self.0.limits.sign(&agent.id, 1).await?;
        let found = self.0.store.get_agent(&agent.id).await;
        let found = found.map_err(|error| status::store("failed to fetch agent", &error))?;
        let record = found.ok_or_else(|| Status::not_found("agent not found"))?;
        if record.can_reattest {
            return Err(permission_denied(Reason::AgentMustReattest, "agent must reattest instead of renew"));
        }
        let params =
            request.into_inner().params.ok_or_else(|| Status::invalid_argument("params cannot be nil"))?;
        if params.csr.is_empty() {
            return Err(Status::invalid_argument("missing CSR"));
        }
        let csr = Csr::parse(&params.csr).map_err(|error| status::invalid("failed to parse CSR", error))?;
        let svid = attest::sign(&self.0, &agent.id, &csr);
        let svid = svid.map_err(|error| svid::failed(SIGNING_FAILED, &error))?;
        let signed = attest::signed(&self.0, &svid, &csr);
        let renewed = self.0.renewals.renew(Arc::new(record), signed).await;
        let renewed = renewed.map_err(|error| status::store("failed to update agent", &error))?;
        tracing::info!(spiffe_id = %agent.id, serial = svid.serial, "agent SVID renewed");
        let membership = membership::issue(&self.0, &svid, &csr, renewed.generation).unwrap_or_default();
        let mut answer = Response::new(RenewAgentResponse { svid: Some(svid::x509_to_proto(&svid, "")) });
        bootstrap::put_membership(answer.metadata_mut(), &membership);
        Ok(answer)
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let by = Caller::of(&request)?.peer;
        let CreateJoinTokenRequest { ttl, token, agent_id } = request.into_inner();
        let wanted = join_token::Wanted { ttl, token, alias: agent_id, reusable: false };
        let made = join_token::create(&self.0, wanted, &by).await?;
        Ok(Response::new(types::JoinToken { value: made.value, expires_at: made.expires_at }))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        let agent = Caller::agent_of(&request)?;
        self.0.limits.post_status(&agent.id).await?;
        let version = request.into_inner().agent_version;
        if version.len() > MAX_VERSION_BYTES {
            return Err(Status::invalid_argument("agent version is too long (max 255 characters)"));
        }
        if !version.is_empty() {
            let set = self.0.store.set_agent_version(&agent.id, version).await;
            set.map_err(|error| status::store("failed to update agent", &error))?;
        }
        Ok(Response::new(PostStatusResponse {}))
    }
}

impl AgentService {
    fn eviction(&self, by: &Peer) -> Eviction {
        Eviction { by: by.to_string(), at: self.0.clock.unix() }
    }

    fn agent_id(&self, field: Option<&types::Spiffeid>) -> Result<SpiffeId, Status> {
        ids::agent(&self.0.trust_domain, field).map_err(|error| status::invalid("invalid agent ID", error))
    }
}

fn log_entries(removed: &Removed, by: &Peer) {
    for entry in &removed.entries {
        tracing::info!(
            entry = entry.id, spiffe_id = %entry.spiffe_id, parent_id = %entry.parent_id, %by,
            "entry deleted with its agent"
        );
    }
}

/// A refusal to join as the API has it.
fn refused(error: AttestError) -> Status {
    match error {
        AttestError::UnknownAttestor { .. } => Status::failed_precondition(error.to_string()),
        AttestError::Payload(_)
        | AttestError::Csr(_)
        | AttestError::TokenSpent
        | AttestError::TokenEvicted(_)
        | AttestError::TokenExpired => Status::invalid_argument(error.to_string()),
        AttestError::RateLimited(limited) => limited.into(),
        AttestError::Banned => permission_denied(Reason::AgentBanned, error.to_string()),
        AttestError::Evicted(_) => permission_denied(Reason::AgentNotAttested, error.to_string()),
        AttestError::Superseded => permission_denied(Reason::AgentNotActive, error.to_string()),
        AttestError::MembershipEnded => permission_denied(Reason::AgentExpired, error.to_string()),
        AttestError::NoMembership => Status::failed_precondition(error.to_string()),
        AttestError::Store { doing, error } => status::store(doing, &error),
        AttestError::Sign(error) => svid::failed(SIGNING_FAILED, &error),
    }
}

fn attest_params(
    step: Option<attest_agent_request::Step>,
) -> Result<(types::AttestationData, AgentX509svidParams), &'static str> {
    let Some(attest_agent_request::Step::Params(params)) = step else { return Err("missing params") };
    let data = params.data.ok_or("missing attestation data")?;
    let svid = params.params.ok_or("missing X509-SVID parameters")?;
    if svid.csr.is_empty() {
        return Err("missing CSR");
    }
    if data.r#type.is_empty() {
        return Err("missing attestation data type");
    }
    if data.payload.is_empty() {
        return Err("missing attestation data payload");
    }
    Ok((data, svid))
}
