//! SPIRE's service for what administrators do to authorities, so that `spire-server localauthority` does it here too.

use std::sync::Arc;

use svidecar_api::spire::api::server::localauthority::v1::{
    self as api, local_authority_server::LocalAuthority,
};
use tonic::{Request, Response, Status};

use super::gate::Caller;
use crate::{
    ca::{AuthorityState, AuthorityStates, CaError, Change, Kind},
    peer::Peer,
    state::State,
};

/// What SPIRE has and this server has not.
const NO_UPSTREAM: &str = "this server has no upstream authority";
const NO_WIT: &str = "this server issues no WITs";

/// The service.
pub struct LocalAuthorityService(pub Arc<State>);

impl LocalAuthorityService {
    async fn states(
        &self,
        kind: Kind,
    ) -> (Option<api::AuthorityState>, Option<api::AuthorityState>, Option<api::AuthorityState>) {
        let AuthorityStates { active, prepared, old } = self.0.ca.states(kind).await;
        (active.map(shown), prepared.map(shown), old.map(shown))
    }

    async fn change(
        &self,
        by: &Peer,
        kind: Kind,
        change: Change,
    ) -> Result<Option<api::AuthorityState>, Status> {
        let what = format!("{change:?}");
        match self.0.ca.change(kind, change, self.0.guard.moment()).await {
            Ok(state) => {
                tracing::warn!(?kind, change = what, authority_id = state.id, %by, "an authority was changed by hand");
                Ok(Some(shown(state)))
            }
            Err(error @ CaError::ByHand(_)) => Err(Status::failed_precondition(error.to_string())),
            Err(error) => {
                tracing::error!(code = error.code().name(), %error, "cannot change an authority");
                Err(Status::internal(error.to_string()))
            }
        }
    }
}

fn shown(state: AuthorityState) -> api::AuthorityState {
    api::AuthorityState {
        authority_id: state.id,
        expires_at: i64::try_from(state.expires_at).unwrap_or(i64::MAX),
        upstream_authority_subject_key_id: String::new(),
    }
}

#[tonic::async_trait]
impl LocalAuthority for LocalAuthorityService {
    async fn get_x509_authority_state(
        &self,
        _: Request<api::GetX509AuthorityStateRequest>,
    ) -> Result<Response<api::GetX509AuthorityStateResponse>, Status> {
        let (active, prepared, old) = self.states(Kind::X509).await;
        Ok(Response::new(api::GetX509AuthorityStateResponse { active, prepared, old }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<api::PrepareX509AuthorityRequest>,
    ) -> Result<Response<api::PrepareX509AuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let prepared_authority = self.change(&by, Kind::X509, Change::Prepare).await?;
        Ok(Response::new(api::PrepareX509AuthorityResponse { prepared_authority }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<api::ActivateX509AuthorityRequest>,
    ) -> Result<Response<api::ActivateX509AuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let change = Change::Activate(request.into_inner().authority_id);
        let activated_authority = self.change(&by, Kind::X509, change).await?;
        Ok(Response::new(api::ActivateX509AuthorityResponse { activated_authority }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<api::TaintX509AuthorityRequest>,
    ) -> Result<Response<api::TaintX509AuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let change = Change::Taint(request.into_inner().authority_id);
        let tainted_authority = self.change(&by, Kind::X509, change).await?;
        Ok(Response::new(api::TaintX509AuthorityResponse { tainted_authority }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<api::RevokeX509AuthorityRequest>,
    ) -> Result<Response<api::RevokeX509AuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let change = Change::Revoke(request.into_inner().authority_id);
        let revoked_authority = self.change(&by, Kind::X509, change).await?;
        Ok(Response::new(api::RevokeX509AuthorityResponse { revoked_authority }))
    }

    async fn get_jwt_authority_state(
        &self,
        _: Request<api::GetJwtAuthorityStateRequest>,
    ) -> Result<Response<api::GetJwtAuthorityStateResponse>, Status> {
        let (active, prepared, old) = self.states(Kind::Jwt).await;
        Ok(Response::new(api::GetJwtAuthorityStateResponse { active, prepared, old }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<api::PrepareJwtAuthorityRequest>,
    ) -> Result<Response<api::PrepareJwtAuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let prepared_authority = self.change(&by, Kind::Jwt, Change::Prepare).await?;
        Ok(Response::new(api::PrepareJwtAuthorityResponse { prepared_authority }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<api::ActivateJwtAuthorityRequest>,
    ) -> Result<Response<api::ActivateJwtAuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let change = Change::Activate(request.into_inner().authority_id);
        let activated_authority = self.change(&by, Kind::Jwt, change).await?;
        Ok(Response::new(api::ActivateJwtAuthorityResponse { activated_authority }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<api::TaintJwtAuthorityRequest>,
    ) -> Result<Response<api::TaintJwtAuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let change = Change::Taint(request.into_inner().authority_id);
        let tainted_authority = self.change(&by, Kind::Jwt, change).await?;
        Ok(Response::new(api::TaintJwtAuthorityResponse { tainted_authority }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<api::RevokeJwtAuthorityRequest>,
    ) -> Result<Response<api::RevokeJwtAuthorityResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let change = Change::Revoke(request.into_inner().authority_id);
        let revoked_authority = self.change(&by, Kind::Jwt, change).await?;
        Ok(Response::new(api::RevokeJwtAuthorityResponse { revoked_authority }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        _: Request<api::TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<api::TaintX509UpstreamAuthorityResponse>, Status> {
        Err(Status::unimplemented(NO_UPSTREAM))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        _: Request<api::RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<api::RevokeX509UpstreamAuthorityResponse>, Status> {
        Err(Status::unimplemented(NO_UPSTREAM))
    }

    async fn get_wit_authority_state(
        &self,
        _: Request<api::GetWitAuthorityStateRequest>,
    ) -> Result<Response<api::GetWitAuthorityStateResponse>, Status> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn prepare_wit_authority(
        &self,
        _: Request<api::PrepareWitAuthorityRequest>,
    ) -> Result<Response<api::PrepareWitAuthorityResponse>, Status> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn activate_wit_authority(
        &self,
        _: Request<api::ActivateWitAuthorityRequest>,
    ) -> Result<Response<api::ActivateWitAuthorityResponse>, Status> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn taint_wit_authority(
        &self,
        _: Request<api::TaintWitAuthorityRequest>,
    ) -> Result<Response<api::TaintWitAuthorityResponse>, Status> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn revoke_wit_authority(
        &self,
        _: Request<api::RevokeWitAuthorityRequest>,
    ) -> Result<Response<api::RevokeWitAuthorityResponse>, Status> {
        Err(Status::unimplemented(NO_WIT))
    }
}
