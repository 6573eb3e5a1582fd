//! The Bundle service: our own bundle for everybody, federated ones for administrators and agents.

use std::sync::Arc;

use svidecar_api::spire::api::{
    server::bundle::v1::{
        AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
        BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse,
        BatchSetFederatedBundleRequest, BatchSetFederatedBundleResponse, BatchUpdateFederatedBundleRequest,
        BatchUpdateFederatedBundleResponse, CountBundlesRequest, CountBundlesResponse, GetBundleRequest,
        GetFederatedBundleRequest, ListFederatedBundlesRequest, ListFederatedBundlesResponse,
        PublishJwtAuthorityRequest, PublishJwtAuthorityResponse, batch_create_federated_bundle_response,
        batch_delete_federated_bundle_request::Mode, batch_delete_federated_bundle_response,
        batch_set_federated_bundle_response, batch_update_federated_bundle_response, bundle_server::Bundle,
    },
    types,
};
use svidecar_id::TrustDomain;
use tonic::{Request, Response, Status};

use super::{gate::Caller, status};
use crate::{
    bundles,
    peer::Peer,
    state::State,
    store::{BundleRecord, DeleteMode, PageRequest, StoreError},
};

/// Token keys that our bundle may have for servers below to publish one more: each goes to every agent.
const MAX_PUBLISHED: usize = 128;

/// Most bundles of one batch.
const MAX_BATCH: usize = 500;

/// The service.
pub struct BundleService(pub Arc<State>);

#[tonic::async_trait]
impl Bundle for BundleService {
    async fn count_bundles(
        &self,
        _: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        let count = self.0.store.count_bundles().await;
        let count = count.map_err(|error| status::store("failed to count bundles", &error))?;
        Ok(Response::new(CountBundlesResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        self.0.entries.current().await;
        let bundle = self.0.entries.bundle(&self.0.trust_domain);
        let bundle = bundle.ok_or_else(|| Status::not_found("bundle not found"))?;
        Ok(Response::new(bundles::to_proto(&bundle, request.into_inner().output_mask.as_ref())))
    }

    async fn append_bundle(
        &self,
        request: Request<AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        if request.x509_authorities.is_empty() && request.jwt_authorities.is_empty() {
            return Err(Status::invalid_argument("no authorities to append"));
        }
        let x509 = bundles::x509_from_proto(&request.x509_authorities)
            .map_err(|error| status::invalid("failed to convert X.509 authority", error))?;
        let jwt = bundles::jwt_from_proto(&request.jwt_authorities)
            .map_err(|error| status::invalid("failed to convert JWT authority", error))?;
        let append = Box::new(move |bundle: &mut BundleRecord| {
            bundle.append(x509, jwt);
            bundle.check_size(bundles::MAX_AUTHORITIES, bundles::MAX_AUTHORITIES)
        });
        let appended = self.0.store.modify_bundle(&self.0.trust_domain, append);
        let bundle = appended.await.map_err(|error| status::store("failed to append bundle", &error))?;
        tracing::info!(sequence = bundle.sequence, %by, "authorities appended to our bundle");
        Ok(Response::new(bundles::to_proto(&bundle, request.output_mask.as_ref())))
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        let Caller { peer: by, downstream, .. } = Caller::of(&request)?;
        let server = downstream.ok_or_else(|| Status::internal("caller ID missing from request context"))?;
        self.0.limits.publish(&server.spiffe_id).await?;
        let key = request.into_inner().jwt_authority;
        let key = key.ok_or_else(|| Status::invalid_argument("missing JWT authority"))?;
        if key.expires_at > 0 && key.expires_at <= self.0.clock.unix() {
            return Err(Status::invalid_argument("invalid JWT authority: it has expired"));
        }
        let jwt = bundles::jwt_from_proto(std::slice::from_ref(&key))
            .map_err(|error| status::invalid("invalid JWT authority", error))?;
        let publish = Box::new(move |bundle: &mut BundleRecord| {
            let before = bundle.jwt_authorities.len();
            bundle.append(Vec::new(), jwt);
            // One that was there already is no more, however many there are.
            if bundle.jwt_authorities.len() == before {
                return Ok(());
            }
            bundle.check_size(usize::MAX, MAX_PUBLISHED)
        });
        let published = self.0.store.modify_bundle(&self.0.trust_domain, publish);
        let bundle = published.await.map_err(|error| status::store("failed to publish JWT key", &error))?;
        tracing::info!(key_id = key.key_id, %by, "token key published");
        Ok(Response::new(PublishJwtAuthorityResponse {
            jwt_authorities: bundles::jwt_to_proto(&bundle.jwt_authorities),
        }))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        let request = request.into_inner();
        let page =
            PageRequest { size: u32::try_from(request.page_size).unwrap_or(0), token: request.page_token };
        let page = self.0.store.list_bundles(page).await;
        let page = page.map_err(|error| status::store("failed to list bundles", &error))?;
        let mask = request.output_mask.as_ref();
        let federated = page.items.iter().filter(|bundle| bundle.trust_domain != self.0.trust_domain);
        Ok(Response::new(ListFederatedBundlesResponse {
            bundles: federated.map(|bundle| bundles::to_proto(bundle, mask)).collect(),
            next_page_token: page.next,
        }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let request = request.into_inner();
        let name = self.federated(&request.trust_domain)?;
        self.0.entries.current().await;
        let bundle = self.0.entries.bundle(&name).ok_or_else(|| Status::not_found("bundle not found"))?;
        Ok(Response::new(bundles::to_proto(&bundle, request.output_mask.as_ref())))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        use batch_create_federated_bundle_response::Result as Item;
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        bounded(request.bundle.len())?;
        let mut results = Vec::with_capacity(request.bundle.len());
        for sent in &request.bundle {
            results.push(match self.create(sent, &by).await {
                Ok(bundle) => Item {
                    status: status::ok(),
                    bundle: Some(bundles::to_proto(&bundle, request.output_mask.as_ref())),
                },
                Err(error) => Item { status: status::item(&error), bundle: None },
            });
        }
        Ok(Response::new(BatchCreateFederatedBundleResponse { results }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        use batch_update_federated_bundle_response::Result as Item;
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        bounded(request.bundle.len())?;
        let mut results = Vec::with_capacity(request.bundle.len());
        for sent in &request.bundle {
            results.push(match self.update(sent, request.input_mask, &by).await {
                Ok(bundle) => Item {
                    status: status::ok(),
                    bundle: Some(bundles::to_proto(&bundle, request.output_mask.as_ref())),
                },
                Err(error) => Item { status: status::item(&error), bundle: None },
            });
        }
        Ok(Response::new(BatchUpdateFederatedBundleResponse { results }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        use batch_set_federated_bundle_response::Result as Item;
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        bounded(request.bundle.len())?;
        let mut results = Vec::with_capacity(request.bundle.len());
        for sent in &request.bundle {
            results.push(match self.set(sent, &by).await {
                Ok(bundle) => Item {
                    status: status::ok(),
                    bundle: Some(bundles::to_proto(&bundle, request.output_mask.as_ref())),
                },
                Err(error) => Item { status: status::item(&error), bundle: None },
            });
        }
        Ok(Response::new(BatchSetFederatedBundleResponse { results }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        use batch_delete_federated_bundle_response::Result as Item;
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        bounded(request.trust_domains.len())?;
        let mode = Mode::try_from(request.mode)
            .map_err(|_| Status::invalid_argument(format!("unhandled delete mode \"{}\"", request.mode)))?;
        let mut results = Vec::with_capacity(request.trust_domains.len());
        for name in request.trust_domains {
            let deleted = self.delete(&name, mode, &by).await;
            let status = deleted.map_or_else(|error| status::item(&error), |()| status::ok());
            results.push(Item { status, trust_domain: name });
        }
        Ok(Response::new(BatchDeleteFederatedBundleResponse { results }))
    }
}

impl BundleService {
    /// The name of a trust domain that is not our own.
    fn federated(&self, name: &str) -> Result<TrustDomain, Status> {
        let name = TrustDomain::parse_lenient(name)
            .map_err(|error| status::invalid("trust domain argument is not valid", error))?;
        self.check_foreign(&name)?;
        Ok(name)
    }

    fn check_foreign(&self, name: &TrustDomain) -> Result<(), Status> {
        if *name == self.0.trust_domain {
            return Err(Status::invalid_argument(format!(
                "\"{name}\" is this server's own trust domain; its bundle is read by GetBundle and changed by the CA"
            )));
        }
        Ok(())
    }

    fn read(&self, sent: &types::Bundle) -> Result<BundleRecord, Status> {
        let bundle = bundles::from_proto(Some(sent))
            .map_err(|error| status::invalid("failed to convert bundle", error))?;
        self.check_foreign(&bundle.trust_domain)?;
        Ok(bundle)
    }

    async fn create(&self, sent: &types::Bundle, by: &Peer) -> Result<BundleRecord, Status> {
        let bundle = self.read(sent)?;
        match self.0.store.create_bundle(bundle.clone()).await {
            Ok(()) => {
                log_bundle(&bundle.trust_domain, by, "federated bundle created");
                Ok(bundle)
            }
            Err(StoreError::AlreadyExists { .. }) => Err(Status::already_exists("bundle already exists")),
            Err(error) => Err(status::store("unable to create bundle", &error)),
        }
    }

    async fn set(&self, sent: &types::Bundle, by: &Peer) -> Result<BundleRecord, Status> {
        let bundle = self.read(sent)?;
        let set = self.0.store.set_bundle(bundle.clone()).await;
        set.map_err(|error| status::store("failed to set bundle", &error))?;
        log_bundle(&bundle.trust_domain, by, "federated bundle set");
        Ok(bundle)
    }

    async fn update(
        &self,
        sent: &types::Bundle,
        mask: Option<types::BundleMask>,
        by: &Peer,
    ) -> Result<BundleRecord, Status> {
        let bundle = self.read(sent)?;
        let name = bundle.trust_domain.clone();
        let change = Box::new(move |known: &mut BundleRecord| {
            let all = types::BundleMask {
                x509_authorities: true,
                jwt_authorities: true,
                refresh_hint: true,
                sequence_number: true,
                // None are ever issued.
                wit_authorities: false,
            };
            let mask = mask.unwrap_or(all);
            if mask.x509_authorities {
                known.x509_authorities = bundle.x509_authorities;
            }
            if mask.jwt_authorities {
                known.jwt_authorities = bundle.jwt_authorities;
            }
            if mask.refresh_hint {
                known.refresh_hint = bundle.refresh_hint;
            }
            if mask.sequence_number {
                known.sequence = bundle.sequence;
            }
            Ok(())
        });
        match self.0.store.modify_bundle(&name, change).await {
            Ok(bundle) => {
                log_bundle(&name, by, "federated bundle updated");
                Ok(bundle)
            }
            Err(StoreError::NotFound { .. }) => Err(Status::not_found("bundle not found")),
            Err(error) => Err(status::store("failed to update bundle", &error)),
        }
    }

    async fn delete(&self, name: &str, mode: Mode, by: &Peer) -> Result<(), Status> {
        let name = self.federated(name)?;
        let mode = match mode {
            Mode::Restrict => DeleteMode::Restrict,
            Mode::Delete => DeleteMode::Delete,
            Mode::Dissociate => DeleteMode::Dissociate,
        };
        match self.0.store.delete_bundle(&name, mode).await {
            Ok(()) => {
                log_bundle(&name, by, "federated bundle deleted");
                Ok(())
            }
            Err(StoreError::NotFound { .. }) => Err(Status::not_found("bundle not found")),
            Err(error) => Err(status::store("failed to delete federated bundle", &error)),
        }
    }
}

fn bounded(count: usize) -> Result<(), Status> {
    if count > MAX_BATCH {
        return Err(Status::resource_exhausted(format!(
            "too many bundles in one batch: {count}; at most {MAX_BATCH} are taken"
        )));
    }
    Ok(())
}

fn log_bundle(name: &TrustDomain, by: &Peer, what: &str) {
    tracing::info!(trust_domain = %name, %by, "{what}");
}
