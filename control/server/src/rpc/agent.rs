//! The Agent service: joining by token, renewing, and what administrators do with agents.

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
use svidecar_api::status::{Reason, permission_denied};
use svidecar_authority::{
    csr::Csr,
    x509::{SvidParams, X509Svid},
};
use svidecar_id::SpiffeId;
use tokio::time::{self, Duration};
use tonic::{Request, Response, Status, Streaming};

use super::{
    agent_fields,
    gate::Caller,
    join_token::{self, MAX_TOKEN_BYTES, glimpse},
    status, svid,
};
use crate::{
    ids,
    peer::Peer,
    state::State,
    store::{AgentRecord, Consumed, PageRequest, StoreError, TokenUse},
    telemetry,
};

const JOIN_TOKEN: &str = "join_token";

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
        match self.0.store.delete_agent(&id).await {
            Ok(_) => {
                tracing::info!(spiffe_id = %id, %by, "agent deleted");
                Ok(Response::new(()))
            }
            Err(StoreError::NotFound { .. }) => Err(Status::not_found("agent not found")),
            Err(error) => Err(status::store("failed to remove agent", &error)),
        }
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let by = Caller::of(&request)?.peer;
        let id = self.agent_id(request.into_inner().id.as_ref())?;
        match self.0.store.ban_agent(&id).await {
            Ok(_) => {
                tracing::info!(spiffe_id = %id, %by, "agent banned");
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
        if data.r#type != JOIN_TOKEN {
            return Err(Status::failed_precondition(format!(
                "error getting node attestor: could not find node attestor type {:?}; this server attests by join_token",
                data.r#type
            )));
        }
        let token = String::from_utf8(data.payload)
            .ok()
            .filter(|token| token.len() <= MAX_TOKEN_BYTES)
            .ok_or_else(|| {
                Status::invalid_argument("failed to attest: the join token is not text of at most 255 bytes")
            })?;
        let svid = self.attest_by_token(&token, &params.csr, &peer).await?;
        let result = attest_agent_response::Result { svid: Some(svid), reattestable: false };
        let step = Some(attest_agent_response::Step::Result(result));
        Ok(Response::new(tokio_stream::once(Ok(AttestAgentResponse { step }))))
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
        let csr = parse_csr(&params.csr)?;
        let svid = self.sign(&agent.id, &csr)?;
        let renewed =
            self.0.store.renew_agent(&agent.id, svid.serial.clone(), svid::seconds(svid.not_after)).await;
        renewed.map_err(|error| status::store("failed to update agent", &error))?;
        tracing::info!(spiffe_id = %agent.id, serial = svid.serial, "agent SVID renewed");
        Ok(Response::new(RenewAgentResponse { svid: Some(svid::x509_to_proto(&svid, "")) }))
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
    fn agent_id(&self, field: Option<&types::Spiffeid>) -> Result<SpiffeId, Status> {
        ids::agent(&self.0.trust_domain, field).map_err(|error| status::invalid("invalid agent ID", error))
    }

    fn sign(&self, id: &SpiffeId, csr: &Csr) -> Result<X509Svid, Status> {
        let params = SvidParams::new(id.clone(), csr.spki_der(), self.0.agent_ttl);
        let svid = self.0.ca.sign_x509_svid(&params, self.0.clock.now());
        let svid = svid.map_err(|error| svid::failed("failed to sign X509 SVID", &error))?;
        telemetry::signed("agent");
        Ok(svid)
    }

    /// Binds the token to the key of the request, or finds that it is bound to it, and issues the agent's SVID. Where a
    /// reusable token comes with another key, the SVID of before is not active any more.
    async fn attest_by_token(&self, token: &str, csr: &[u8], peer: &Peer) -> Result<types::X509svid, Status> {
        let state = &self.0;
        let token = ids::without_pin(token);
        let address = match peer {
            Peer::Remote { address, .. } => Some(address.ip()),
            Peer::Local { .. } => None,
        };
        state.limits.attest(token, address).await?;
        let csr = parse_csr(csr)?;
        let reusable = state.store.get_token(token).await;
        let reusable = reusable.map_err(|error| token_refused(&error))?.is_some_and(|token| token.reusable);
        let id = join_token::agent_id(&state.trust_domain, token, reusable)
            .map_err(|_| token_refused(&StoreError::TokenUnknown))?;
        let known = state.store.get_agent(&id).await;
        let known = known.map_err(|error| status::store("failed to fetch agent", &error))?;
        if known.as_ref().is_some_and(AgentRecord::is_banned) {
            telemetry::attested("agent_banned");
            tracing::warn!(spiffe_id = %id, %peer, "a banned agent tried to attest");
            return Err(permission_denied(Reason::AgentBanned, "failed to attest: agent is banned"));
        }

        let user = TokenUse {
            key_fingerprint: hex::encode(svidecar_authority::x509::sha256(&csr.spki_der())),
            from: peer.origin(),
            at: state.clock.unix(),
        };
        let key = user.key_fingerprint.clone();
        let refused = |error: StoreError| {
            telemetry::attested(error.code().name());
            let token = glimpse(token);
            tracing::warn!(token, %peer, key, code = error.code().name(), %error, "refused a join token");
            token_refused(&error)
        };
        let consumed = state.store.consume_token(token, user).await.map_err(refused)?;

        let svid = self.sign(&id, &csr)?;
        let expires_at = svid::seconds(svid.not_after);
        let stored = match known {
            // The agent repeats what it may already have been answered: whichever answer it uses is good.
            Some(_) if consumed == Consumed::Repeated => {
                state.store.renew_agent(&id, svid.serial.clone(), expires_at).await.map(|_| ())
            }
            _ => {
                let agent = AgentRecord {
                    id: id.clone(),
                    attestation_type: JOIN_TOKEN.to_owned(),
                    serial: svid.serial.clone(),
                    expires_at,
                    new_serial: String::new(),
                    new_expires_at: 0,
                    can_reattest: false,
                    agent_version: String::new(),
                    selectors: Vec::new(),
                };
                state.store.put_agent(agent, Some(token)).await
            }
        };
        stored.map_err(|error| match error {
            StoreError::TokenUnknown => refused(error),
            error => status::store("failed to create attested agent", &error),
        })?;
        telemetry::attested("ok");
        let first_use = consumed == Consumed::First;
        tracing::info!(spiffe_id = %id, %peer, key, serial = svid.serial, first_use, reusable, "agent attested");
        if let Consumed::Replaced(before) = consumed {
            tracing::warn!(
                spiffe_id = %id, %peer, key, key_before = before.key_fingerprint, from_before = before.from,
                used_before = before.at,
                "a reusable join token was used with another key: this agent takes the place of the one before"
            );
        }
        Ok(svid::x509_to_proto(&svid, ""))
    }
}

/// The caller is not told who used the token first; the log is.
fn token_refused(error: &StoreError) -> Status {
    match error {
        StoreError::TokenUnknown | StoreError::TokenUsed { .. } => {
            Status::invalid_argument("failed to attest: join token does not exist or has already been used")
        }
        StoreError::TokenExpired { .. } => Status::invalid_argument("join token expired"),
        other => status::store("failed to fetch join token", other),
    }
}

fn parse_csr(der: &[u8]) -> Result<Csr, Status> {
    Csr::parse(der).map_err(|error| status::invalid("failed to parse CSR", error))
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
