//! The bootstrap keys as administrators see them: listed, rotated, revoked.

use std::sync::Arc;

use svidecar_api::svidecar::server::v1::{
    BootstrapKey, ListBootstrapKeysRequest, ListBootstrapKeysResponse, RevokeBootstrapKeyRequest,
    RevokeBootstrapKeyResponse, RotateBootstrapKeyRequest, RotateBootstrapKeyResponse,
    bootstrap_keys_server::BootstrapKeys,
};
use tonic::{Request, Response, Status};

use super::gate::Caller;
use crate::{
    ca::{self, CaError},
    state::State,
    store::unix_seconds,
};

/// The service.
pub struct BootstrapKeyService(pub Arc<State>);

#[tonic::async_trait]
impl BootstrapKeys for BootstrapKeyService {
    async fn list_bootstrap_keys(
        &self,
        _: Request<ListBootstrapKeysRequest>,
    ) -> Result<Response<ListBootstrapKeysResponse>, Status> {
        let keys = self.0.ca.bootstrap().all().iter().map(|key| self.shown(key)).collect();
        Ok(Response::new(ListBootstrapKeysResponse { keys }))
    }

    async fn rotate_bootstrap_key(
        &self,
        request: Request<RotateBootstrapKeyRequest>,
    ) -> Result<Response<RotateBootstrapKeyResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let now = self.0.clock.now();
        let key = self.change(move |state| state.ca.bootstrap().rotate(now)).await?;
        tracing::info!(key = key.hash(), %by, "bootstrap key rotated; join tokens name the new one from now on");
        Ok(Response::new(RotateBootstrapKeyResponse { key: Some(self.shown(&key)) }))
    }

    async fn revoke_bootstrap_key(
        &self,
        request: Request<RevokeBootstrapKeyRequest>,
    ) -> Result<Response<RevokeBootstrapKeyResponse>, Status> {
        let by = Caller::of(&request)?.peer;
        let hash = request.into_inner().sha256;
        let key = self.change(move |state| state.ca.bootstrap().revoke(&hash)).await?;
        tracing::warn!(key = key.hash(), %by, "bootstrap key revoked; join tokens that name it are good for nothing");
        Ok(Response::new(RevokeBootstrapKeyResponse { key: Some(self.shown(&key)) }))
    }
}

impl BootstrapKeyService {
    /// Writes files, off the threads that must not wait.
    async fn change(
        &self,
        change: impl FnOnce(&State) -> Result<Arc<ca::BootstrapKey>, CaError> + Send + 'static,
    ) -> Result<Arc<ca::BootstrapKey>, Status> {
        let state = Arc::clone(&self.0);
        let changed = tokio::task::spawn_blocking(move || change(&state)).await;
        match changed.unwrap_or(Err(CaError::Stopping)) {
            Ok(key) => Ok(key),
            Err(error @ CaError::BootstrapKeys(_)) => Err(Status::failed_precondition(error.to_string())),
            Err(error) => {
                tracing::error!(code = error.code().name(), %error, "cannot change the bootstrap keys");
                Err(Status::internal(error.to_string()))
            }
        }
    }

    fn shown(&self, key: &ca::BootstrapKey) -> BootstrapKey {
        BootstrapKey {
            sha256: key.hash().to_owned(),
            created_at: unix_seconds(key.made_at()),
            current: key.hash() == self.0.ca.bootstrap().pin(),
        }
    }
}
