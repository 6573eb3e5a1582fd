//! The services of the small server.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, StreamExt as _};
use svidecar_api::{
    spire::api::{
        server::{agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, svid::v1 as svid},
        types,
    },
    svidecar::server::v1 as push,
};
use svidecar_authority::{
    csr::Csr,
    jwt::{JwtClaims, mint},
    time::plus,
};
use svidecar_id::SpiffeId;
use svidecar_process::clock;
use tonic::{Request, Response, Status, Streaming};

use super::{Peer, World, now, trust_domain};

#[derive(Clone)]
pub(super) struct Api(pub(super) Arc<World>);

impl Api {
    /// The calls of agents need an agent's identity that is still welcome.
    fn agent<T>(&self, request: &Request<T>) -> Result<SpiffeId, Status> {
        self.0.check_agent(request.extensions().get::<Peer>().unwrap())
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A service of which the tests need some calls only.
macro_rules! service {
    (impl $service:path { $($body:tt)* } unused { $($name:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $service for Api {
            $($body)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

service! {
    impl agent::agent_server::Agent {
        type AttestAgentStream = BoxStream<agent::AttestAgentResponse>;

        async fn attest_agent(
            &self,
            request: Request<Streaming<agent::AttestAgentRequest>>,
        ) -> Result<Response<Self::AttestAgentStream>, Status> {
            let message = request.into_inner().message().await?.unwrap();
            let Some(agent::attest_agent_request::Step::Params(params)) = message.step else { panic!() };
            self.0.attestations.fetch_add(1, Ordering::Relaxed);
            let csr = params.params.unwrap().csr;
            let key = Csr::parse(&csr).unwrap().spki_der();
            let token = String::from_utf8(params.data.unwrap().payload).unwrap();
            let mut used_by = self.0.token_used_by.lock().unwrap();
            if token != self.0.token || used_by.as_ref().is_some_and(|first| *first != key) {
                return Err(Status::invalid_argument(
                    "failed to attest: join token does not exist or has already been used",
                ));
            }
            *used_by = Some(key);
            let lost = self.0.lost_answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            if lost.is_ok() {
                return Err(Status::unavailable("the answer was lost"));
            }
            let id = SpiffeId::new(&trust_domain(), &format!("/spire/agent/join_token/{token}")).unwrap();
            let svid = self.0.sign_agent(id, &csr, true);
            let result = agent::attest_agent_response::Result { svid: Some(svid), reattestable: false };
            let step = Some(agent::attest_agent_response::Step::Result(result));
            let answer = futures_util::stream::iter([Ok(agent::AttestAgentResponse { step })]);
            Ok(Response::new(Box::pin(answer)))
        }

        async fn renew_agent(
            &self,
            request: Request<agent::RenewAgentRequest>,
        ) -> Result<Response<agent::RenewAgentResponse>, Status> {
            let id = self.agent(&request)?;
            let csr = request.into_inner().params.unwrap().csr;
            let svid = self.0.sign_agent(id, &csr, false);
            self.0.renewals.send_modify(|count| *count += 1);
            Ok(Response::new(agent::RenewAgentResponse { svid: Some(svid) }))
        }

        async fn post_status(
            &self,
            request: Request<agent::PostStatusRequest>,
        ) -> Result<Response<agent::PostStatusResponse>, Status> {
            self.agent(&request)?;
            Ok(Response::new(agent::PostStatusResponse {}))
        }
    }
    unused {
        count_agents(agent::CountAgentsRequest) -> agent::CountAgentsResponse;
        list_agents(agent::ListAgentsRequest) -> agent::ListAgentsResponse;
        get_agent(agent::GetAgentRequest) -> types::Agent;
        delete_agent(agent::DeleteAgentRequest) -> ();
        ban_agent(agent::BanAgentRequest) -> ();
        create_join_token(agent::CreateJoinTokenRequest) -> types::JoinToken;
    }
}

/// Entries per page, so small that paging is used.
const PAGE: usize = 3;

service! {
    impl entry::entry_server::Entry {
        type SyncAuthorizedEntriesStream = BoxStream<entry::SyncAuthorizedEntriesResponse>;

        async fn sync_authorized_entries(
            &self,
            request: Request<Streaming<entry::SyncAuthorizedEntriesRequest>>,
        ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
            self.agent(&request)?;
            self.0.syncs.fetch_add(1, Ordering::Relaxed);
            let mut requests = request.into_inner();
            requests.message().await?.unwrap();
            let all: HashMap<String, types::Entry> =
                self.0.entries.lock().unwrap().iter().map(|(id, entry)| (id.clone(), entry.clone())).collect();
            let mut pages = Vec::new();
            if all.len() <= PAGE {
                let entries = all.values().cloned().collect();
                pages.push(entry::SyncAuthorizedEntriesResponse { entries, ..Default::default() });
            } else {
                let revisions: Vec<_> = all
                    .values()
                    .map(|entry| entry::EntryRevision {
                        id: entry.id.clone(),
                        revision_number: entry.revision_number,
                        created_at: entry.created_at,
                    })
                    .collect();
                let count = revisions.len().div_ceil(PAGE);
                for (index, page) in revisions.chunks(PAGE).enumerate() {
                    pages.push(entry::SyncAuthorizedEntriesResponse {
                        entry_revisions: page.to_vec(),
                        more: index + 1 < count,
                        ..Default::default()
                    });
                }
            }
            let details = futures_util::stream::unfold((requests, all), |(mut requests, all)| async move {
                let request = requests.message().await.ok()??;
                let entries = request.ids.iter().filter_map(|id| all.get(id)).cloned().collect();
                let page = entry::SyncAuthorizedEntriesResponse { entries, ..Default::default() };
                Some((Ok(page), (requests, all)))
            });
            Ok(Response::new(Box::pin(futures_util::stream::iter(pages.into_iter().map(Ok)).chain(details))))
        }
    }
    unused {
        count_entries(entry::CountEntriesRequest) -> entry::CountEntriesResponse;
        list_entries(entry::ListEntriesRequest) -> entry::ListEntriesResponse;
        get_entry(entry::GetEntryRequest) -> types::Entry;
        batch_create_entry(entry::BatchCreateEntryRequest) -> entry::BatchCreateEntryResponse;
        batch_update_entry(entry::BatchUpdateEntryRequest) -> entry::BatchUpdateEntryResponse;
        batch_delete_entry(entry::BatchDeleteEntryRequest) -> entry::BatchDeleteEntryResponse;
        get_authorized_entries(entry::GetAuthorizedEntriesRequest) -> entry::GetAuthorizedEntriesResponse;
    }
}

service! {
    impl svid::svid_server::Svid {
        async fn batch_new_x509svid(
            &self,
            request: Request<svid::BatchNewX509svidRequest>,
        ) -> Result<Response<svid::BatchNewX509svidResponse>, Status> {
            self.agent(&request)?;
            let entries = self.0.entries.lock().unwrap().clone();
            let results = request
                .into_inner()
                .params
                .into_iter()
                .map(|params| match entries.get(&params.entry_id) {
                    Some(entry) => {
                        let id = types::Spiffeid::required(entry.spiffe_id.as_ref()).unwrap();
                        let svid = Some(self.0.sign_workload(id, &params.csr));
                        svid::batch_new_x509svid_response::Result { status: Some(types::Status::default()), svid }
                    }
                    None => svid::batch_new_x509svid_response::Result {
                        status: Some(types::Status { code: 5, message: "entry not found".into() }),
                        svid: None,
                    },
                })
                .collect();
            Ok(Response::new(svid::BatchNewX509svidResponse { results }))
        }

        async fn new_jwtsvid(
            &self,
            request: Request<svid::NewJwtsvidRequest>,
        ) -> Result<Response<svid::NewJwtsvidResponse>, Status> {
            self.agent(&request)?;
            let request = request.into_inner();
            let entry = self.0.entries.lock().unwrap().get(&request.entry_id).cloned();
            let sub = types::Spiffeid::required(entry.unwrap().spiffe_id.as_ref()).unwrap();
            let exp = plus(now(), Duration::from_secs(300));
            let claims = JwtClaims { sub, aud: request.audience, iat: now(), exp, iss: None, jti: None };
            let token = mint(&self.0.signer, &claims).unwrap();
            let issued_at = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let svid = types::Jwtsvid {
                token,
                issued_at: i64::try_from(issued_at).unwrap(),
                ..Default::default()
            };
            Ok(Response::new(svid::NewJwtsvidResponse { svid: Some(svid) }))
        }
    }
    unused {
        mint_x509svid(svid::MintX509svidRequest) -> svid::MintX509svidResponse;
        mint_jwtsvid(svid::MintJwtsvidRequest) -> svid::MintJwtsvidResponse;
        new_downstream_x509ca(svid::NewDownstreamX509caRequest) -> svid::NewDownstreamX509caResponse;
    }
}

service! {
    impl bundle::bundle_server::Bundle {
        async fn get_bundle(
            &self,
            _: Request<bundle::GetBundleRequest>,
        ) -> Result<Response<types::Bundle>, Status> {
            Ok(Response::new(World::wire_bundle(&self.0.bundle.lock().unwrap())))
        }

        async fn get_federated_bundle(
            &self,
            request: Request<bundle::GetFederatedBundleRequest>,
        ) -> Result<Response<types::Bundle>, Status> {
            self.agent(&request)?;
            let federated = self.0.federated.lock().unwrap();
            match federated.get(&request.get_ref().trust_domain) {
                Some(bundle) => Ok(Response::new(World::wire_bundle(bundle))),
                None => Err(Status::not_found("bundle not found")),
            }
        }
    }
    unused {
        count_bundles(bundle::CountBundlesRequest) -> bundle::CountBundlesResponse;
        append_bundle(bundle::AppendBundleRequest) -> types::Bundle;
        publish_jwt_authority(bundle::PublishJwtAuthorityRequest) -> bundle::PublishJwtAuthorityResponse;
        list_federated_bundles(bundle::ListFederatedBundlesRequest) -> bundle::ListFederatedBundlesResponse;
        batch_create_federated_bundle(bundle::BatchCreateFederatedBundleRequest)
            -> bundle::BatchCreateFederatedBundleResponse;
        batch_update_federated_bundle(bundle::BatchUpdateFederatedBundleRequest)
            -> bundle::BatchUpdateFederatedBundleResponse;
        batch_set_federated_bundle(bundle::BatchSetFederatedBundleRequest)
            -> bundle::BatchSetFederatedBundleResponse;
        batch_delete_federated_bundle(bundle::BatchDeleteFederatedBundleRequest)
            -> bundle::BatchDeleteFederatedBundleResponse;
    }
}

#[tonic::async_trait]
impl push::watch_server::Watch for Api {
    type WatchStream = BoxStream<push::WatchResponse>;

    async fn watch(
        &self,
        request: Request<push::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.agent(&request)?;
        self.0.watches.fetch_add(1, Ordering::Relaxed);
        let peer = request.extensions().get::<Peer>().unwrap().clone();
        let world = Arc::clone(&self.0);
        let mut changes = world.changes.subscribe();
        // Whole states are all the tests need; the agent finds out what is different.
        changes.mark_changed();
        let sent = request.into_inner().resume_token;
        let state = (world, changes, peer, sent);
        let stream = futures_util::stream::try_unfold(state, |(world, mut changes, peer, sent)| async move {
            loop {
                changes.changed().await.unwrap();
                world.check_agent(&peer)?;
                let snapshot = world.snapshot();
                let held = !sent.is_empty() && world.held.load(Ordering::Relaxed);
                if snapshot.resume_token != sent && !held {
                    let sent = snapshot.resume_token.clone();
                    return Ok(Some((snapshot, (world, changes, peer, sent))));
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
