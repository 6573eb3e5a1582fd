//! The SVID service: signing for agents and for administrators.

use std::{sync::Arc, time::Duration};

use svidecar_api::spire::api::{
    server::svid::v1::{
        BatchNewX509svidRequest, BatchNewX509svidResponse, MintJwtsvidRequest, MintJwtsvidResponse,
        MintX509svidRequest, MintX509svidResponse, NewDownstreamX509caRequest, NewDownstreamX509caResponse,
        NewJwtsvidRequest, NewJwtsvidResponse, NewX509svidParams,
        batch_new_x509svid_response::Result as ItemResult, svid_server::Svid,
    },
    types,
};
use svidecar_authority::{
    csr::Csr,
    x509::{SvidParams, X509Svid},
};
use svidecar_id::SpiffeId;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    gate::{Agent, Caller},
    status,
};
use crate::{
    ca::{CaError, JwtParams},
    ids,
    state::State,
    store::{EntryRecord, unix_seconds},
    telemetry,
};

/// Most requests of one batch, as in SPIRE.
const MAX_BATCH: usize = 500;

/// Most audiences of one token, and most bytes of one audience.
const MAX_AUDIENCES: usize = 64;
const MAX_AUDIENCE_BYTES: usize = 2048;

/// The service.
pub struct SvidService(pub Arc<State>);

#[tonic::async_trait]
impl Svid for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        if request.csr.is_empty() {
            return Err(Status::invalid_argument("missing CSR"));
        }
        let csr = Csr::parse(&request.csr).map_err(|error| status::invalid("malformed CSR", error))?;
        let id =
            csr.spiffe_id().cloned().ok_or_else(|| Status::invalid_argument("CSR URI SAN is required"))?;
        let id = ids::check_workload(&self.0.trust_domain, id)
            .map_err(|error| status::invalid("CSR URI SAN is invalid", error))?;
        let ttl = ttl(request.ttl, self.0.default_x509_svid_ttl)?;
        let mut params = SvidParams::new(id, csr.spki_der(), ttl);
        params.dns_names = csr.dns_names().to_vec();
        if !csr.subject().is_empty() {
            params.subject = csr.subject().clone();
        }
        let svid = self.0.sign(|ca, now| ca.sign_x509_svid(&params, now));
        let svid = svid.map_err(|error| failed("failed to sign X509-SVID", &error))?;
        telemetry::signed("x509");
        tracing::info!(spiffe_id = %svid.id, serial = svid.serial, %by, "X509-SVID minted");
        Ok(Response::new(MintX509svidResponse { svid: Some(x509_to_proto(&svid, "")) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        let id = ids::workload(&self.0.trust_domain, request.id.as_ref())
            .map_err(|error| status::invalid("invalid SPIFFE ID", error))?;
        let ttl = ttl(request.ttl, self.0.default_jwt_svid_ttl)?;
        let svid = self.sign_jwt(&id, request.audience, ttl, false, "")?;
        tracing::info!(spiffe_id = %id, %by, "JWT-SVID minted");
        Ok(Response::new(MintJwtsvidResponse { svid: Some(svid) }))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let agent = Caller::agent_of(&request)?;
        let params = request.into_inner().params;
        if params.is_empty() {
            return Err(Status::invalid_argument("missing parameters"));
        }
        if params.len() > MAX_BATCH {
            return Err(Status::resource_exhausted(format!(
                "too many requests in one batch: {}; at most {MAX_BATCH} are taken",
                params.len()
            )));
        }
        self.0.limits.sign(&agent.id, params.len()).await?;
        self.0.entries.current().await;
        let mut results = Vec::with_capacity(params.len());
        for params in &params {
            results.push(match self.new_x509(&agent, params) {
                Ok(svid) => ItemResult { status: status::ok(), svid: Some(svid) },
                Err(error) => ItemResult { status: status::item(&error), svid: None },
            });
            // Hundreds of signatures take milliseconds; others are served in between.
            tokio::task::yield_now().await;
        }
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let agent = Caller::agent_of(&request)?;
        let request = request.into_inner();
        self.0.limits.sign(&agent.id, 1).await?;
        self.0.entries.current().await;
        let entry = self.authorized_entry(&agent, &request.entry_id)?;
        let ttl = ttl(entry.jwt_svid_ttl, self.0.default_jwt_svid_ttl)?;
        let svid =
            self.sign_jwt(&entry.spiffe_id, request.audience, ttl, entry.jwt_svid_include_jti, &entry.hint)?;
        tracing::debug!(spiffe_id = %entry.spiffe_id, agent = %agent.id, "JWT-SVID issued");
        Ok(Response::new(NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(Status::unimplemented("this server signs no CA certificates for servers below it"))
    }
}

impl SvidService {
    /// The entry, if the agent may issue for it, and it has not ended.
    fn authorized_entry(&self, agent: &Agent, id: &str) -> Result<Arc<EntryRecord>, Status> {
        self.0
            .entries
            .entry_of_agent(&agent.id, id, self.0.clock.unix())
            .ok_or_else(|| Status::not_found("entry not found or not authorized"))
    }

    fn new_x509(&self, agent: &Agent, params: &NewX509svidParams) -> Result<types::X509svid, Status> {
        if params.entry_id.is_empty() {
            return Err(Status::invalid_argument("missing entry ID"));
        }
        if params.csr.is_empty() {
            return Err(Status::invalid_argument("missing CSR"));
        }
        let entry = self.authorized_entry(agent, &params.entry_id)?;
        let csr = Csr::parse(&params.csr).map_err(|error| status::invalid("malformed CSR", error))?;
        let ttl = ttl(entry.x509_svid_ttl, self.0.default_x509_svid_ttl)?;
        let mut wanted = SvidParams::new(entry.spiffe_id.clone(), csr.spki_der(), ttl);
        wanted.dns_names.clone_from(&entry.dns_names);
        let svid = self.0.sign(|ca, now| ca.sign_x509_svid(&wanted, now));
        let svid = svid.map_err(|error| failed("failed to sign X509-SVID", &error))?;
        telemetry::signed("x509");
        tracing::debug!(spiffe_id = %svid.id, serial = svid.serial, agent = %agent.id, entry = entry.id, "X509-SVID issued");
        Ok(x509_to_proto(&svid, &entry.hint))
    }

    fn sign_jwt(
        &self,
        id: &SpiffeId,
        audience: Vec<String>,
        ttl: Duration,
        with_jti: bool,
        hint: &str,
    ) -> Result<types::Jwtsvid, Status> {
        if self.0.disable_jwt_svids {
            return Err(Status::unimplemented("JWT functionality is disabled"));
        }
        if audience.is_empty() || audience.iter().any(String::is_empty) {
            return Err(Status::invalid_argument("at least one audience is required"));
        }
        if audience.len() > MAX_AUDIENCES || audience.iter().any(|one| one.len() > MAX_AUDIENCE_BYTES) {
            return Err(Status::invalid_argument("at most 64 audiences of at most 2048 bytes are taken"));
        }
        let params =
            JwtParams { id: id.clone(), audience, ttl, jti: with_jti.then(|| Uuid::new_v4().to_string()) };
        let signed = self.0.sign(|ca, now| ca.sign_jwt_svid(&params, now));
        let signed = signed.map_err(|error| failed("failed to sign JWT-SVID", &error))?;
        telemetry::signed("jwt");
        Ok(types::Jwtsvid {
            token: signed.token,
            id: Some(id.into()),
            expires_at: unix_seconds(signed.expires_at),
            issued_at: unix_seconds(signed.issued_at),
            hint: hint.to_owned(),
        })
    }
}

/// An SVID as sent.
pub fn x509_to_proto(svid: &X509Svid, hint: &str) -> types::X509svid {
    types::X509svid {
        cert_chain: svid.chain.iter().map(|certificate| certificate.to_vec()).collect(),
        id: Some((&svid.id).into()),
        expires_at: unix_seconds(svid.not_after),
        hint: hint.to_owned(),
    }
}

/// A lifetime that was asked for; 0 takes the default.
fn ttl(asked: i32, default: Duration) -> Result<Duration, Status> {
    match u64::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(Status::invalid_argument("the TTL is negative")),
    }
}

/// The CA refused or failed.
pub fn failed(what: &str, error: &CaError) -> Status {
    tracing::error!(code = error.code().name(), %error, "{what}");
    Status::internal(format!("{what}: {error}"))
}
