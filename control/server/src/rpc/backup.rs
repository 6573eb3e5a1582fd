//! Backups, for administrators on the machine itself: what is sent are the keys of the authorities.

use std::{pin::Pin, sync::Arc};

use futures_util::stream;
use svidecar_api::svidecar::server::v1::{CreateBackupRequest, CreateBackupResponse, backup_server};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::gate::Caller;
use crate::{backup::Backup, state::State};

/// Bytes in one message.
const CHUNK: usize = 1 << 20;

/// The service.
pub struct BackupService(pub Arc<State>);

#[tonic::async_trait]
impl backup_server::Backup for BackupService {
    type CreateBackupStream = Pin<Box<dyn Stream<Item = Result<CreateBackupResponse, Status>> + Send>>;

    async fn create_backup(
        &self,
        request: Request<CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let by = Caller::of(&request)?.peer;
        let taken = Backup::take(&self.0).await.map_err(|error| {
            tracing::error!(code = error.code().name(), %error, "cannot take a backup");
            Status::internal(error.to_string())
        })?;
        let bytes = taken.write();
        tracing::warn!(bytes = bytes.len(), %by, "backup taken; the keys of the authorities are in it");
        let chunks = stream::unfold((bytes, 0), |(bytes, at)| async move {
            let content = bytes.get(at..)?.iter().take(CHUNK).copied().collect::<Vec<_>>();
            let next = at + content.len();
            (!content.is_empty()).then(|| (Ok(CreateBackupResponse { content }), (bytes, next)))
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}
