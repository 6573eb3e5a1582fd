//! The Entry service: registration entries for administrators, and for agents what they are authorized for.

use std::{pin::Pin, sync::Arc};

use futures_util::stream;
use svidecar_api::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest, BatchDeleteEntryResponse,
        BatchUpdateEntryRequest, BatchUpdateEntryResponse, CountEntriesRequest, CountEntriesResponse,
        GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest,
        ListEntriesResponse, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
        batch_create_entry_response, batch_delete_entry_response, batch_update_entry_response,
        entry_server::Entry,
    },
    types,
};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{entry_fields, gate::Caller, status, sync::Sync};
use crate::{
    peer::Peer,
    state::State,
    store::{Created, EntryMask, EntryRecord, PageRequest, StoreError},
};

/// The service.
pub struct EntryService(pub Arc<State>);

#[tonic::async_trait]
impl Entry for EntryService {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let filter = entry_fields::count_filter(&self.0.trust_domain, request.into_inner().filter)?;
        let count = self.0.store.count_entries(filter).await;
        let count = count.map_err(|error| status::store("failed to count entries", &error))?;
        Ok(Response::new(CountEntriesResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let filter = entry_fields::list_filter(&self.0.trust_domain, request.filter)?;
        let page =
            PageRequest { size: u32::try_from(request.page_size).unwrap_or(0), token: request.page_token };
        let page = self.0.store.list_entries(filter, page).await;
        let page = page.map_err(|error| status::store("failed to list entries", &error))?;
        let mask = request.output_mask.as_ref();
        Ok(Response::new(ListEntriesResponse {
            entries: page.items.iter().map(|entry| entry_fields::to_proto_masked(entry, mask)).collect(),
            next_page_token: page.next,
        }))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<types::Entry>, Status> {
        let request = request.into_inner();
        if request.id.is_empty() {
            return Err(Status::invalid_argument("missing ID"));
        }
        let found = self.0.store.get_entry(&request.id).await;
        let found = found.map_err(|error| status::store("failed to fetch entry", &error))?;
        let entry = found.ok_or_else(|| Status::not_found("entry not found"))?;
        Ok(Response::new(entry_fields::to_proto_masked(&entry, request.output_mask.as_ref())))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        use batch_create_entry_response::Result as Item;
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        let mask = request.output_mask.as_ref();
        let outcomes =
            each(request.entries.iter().map(|entry| self.read(entry, EntryMask::ALL)).collect(), |entries| {
                self.0.store.create_entries(entries, self.0.clock.unix())
            })
            .await
            .map_err(|error| status::store("failed to create entries", &error))?;
        let results = outcomes.into_iter().map(|outcome| match outcome {
            Ok(Created::New(entry)) => {
                log_entry(&entry, &by, "entry created");
                Item { status: status::ok(), entry: Some(entry_fields::to_proto_masked(&entry, mask)) }
            }
            Ok(Created::Similar(entry)) => Item {
                status: status::item(&Status::new(Code::AlreadyExists, "similar entry already exists")),
                entry: Some(entry_fields::to_proto_masked(&entry, mask)),
            },
            Err(ItemError::Sent(error)) => Item { status: status::item(&error), entry: None },
            Err(ItemError::Store(error)) => {
                Item { status: status::item(&status::store("failed to create entry", &error)), entry: None }
            }
        });
        Ok(Response::new(BatchCreateEntryResponse { results: results.collect() }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        use batch_update_entry_response::Result as Item;
        let by = Caller::of(&request)?.peer;
        let request = request.into_inner();
        let input = entry_fields::input_mask(request.input_mask.as_ref());
        let mask = request.output_mask.as_ref();
        let outcomes =
            each(request.entries.iter().map(|entry| self.read(entry, input)).collect(), |entries| {
                self.0.store.update_entries(entries, input)
            })
            .await
            .map_err(|error| status::store("failed to update entries", &error))?;
        let results = outcomes.into_iter().map(|outcome| match outcome {
            Ok(entry) => {
                log_entry(&entry, &by, "entry updated");
                Item { status: status::ok(), entry: Some(entry_fields::to_proto_masked(&entry, mask)) }
            }
            Err(ItemError::Sent(error)) => Item { status: status::item(&error), entry: None },
            Err(ItemError::Store(error)) => {
                Item { status: status::item(&status::store("failed to update entry", &error)), entry: None }
            }
        });
        Ok(Response::new(BatchUpdateEntryResponse { results: results.collect() }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        use batch_delete_entry_response::Result as Item;
        let by = Caller::of(&request)?.peer;
        let ids = request.into_inner().ids;
        let outcomes = each(ids.iter().map(|id| named(id)).collect(), |ids| self.0.store.delete_entries(ids))
            .await
            .map_err(|error| status::store("failed to delete entries", &error))?;
        let results = outcomes.into_iter().zip(ids).map(|(outcome, id)| match outcome {
            Ok(entry) => {
                log_entry(&entry, &by, "entry deleted");
                Item { status: status::ok(), id }
            }
            Err(ItemError::Sent(error)) => Item { status: status::item(&error), id },
            Err(ItemError::Store(StoreError::NotFound { .. })) => {
                Item { status: status::item(&Status::not_found("entry not found")), id }
            }
            Err(ItemError::Store(error)) => {
                Item { status: status::item(&status::store("failed to delete entry", &error)), id }
            }
        });
        Ok(Response::new(BatchDeleteEntryResponse { results: results.collect() }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let agent = Caller::agent_of(&request)?;
        let mask = request.into_inner().output_mask;
        self.0.entries.current().await;
        let entries = self.0.entries.of_agent(&agent.id, self.0.clock.unix());
        let entries =
            entries.iter().map(|entry| entry_fields::to_proto_masked(entry, mask.as_ref())).collect();
        Ok(Response::new(GetAuthorizedEntriesResponse { entries }))
    }

    type SyncAuthorizedEntriesStream =
        Pin<Box<dyn Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let agent = Caller::agent_of(&request)?;
        self.0.entries.current().await;
        let entries = self.0.entries.of_agent(&agent.id, self.0.clock.unix());
        let sync = Sync::begin(request.into_inner(), entries).await?;
        let replies =
            stream::try_unfold(
                sync,
                |mut sync| async move { Ok(sync.next().await?.map(|reply| (reply, sync))) },
            );
        Ok(Response::new(Box::pin(replies)))
    }
}

impl EntryService {
    fn read(&self, entry: &types::Entry, mask: EntryMask) -> Result<EntryRecord, Status> {
        entry_fields::from_proto(&self.0.trust_domain, entry, mask)
            .map_err(|why| status::invalid("failed to convert entry", why))
    }
}

fn named(id: &str) -> Result<String, Status> {
    if id.is_empty() { Err(Status::invalid_argument("missing entry ID")) } else { Ok(id.to_owned()) }
}

/// Why one item of a batch failed.
enum ItemError {
    /// What was sent cannot be taken.
    Sent(Status),
    /// The store refused it.
    Store(StoreError),
}

/// Gives the items that could be read to the store in one piece, and puts its answers back between those that
/// could not, in the order of the request.
async fn each<T, U, F>(
    items: Vec<Result<T, Status>>,
    work: impl FnOnce(Vec<T>) -> F,
) -> Result<Vec<Result<U, ItemError>>, StoreError>
where
    F: Future<Output = Result<Vec<Result<U, StoreError>>, StoreError>>,
{
    let mut good = Vec::with_capacity(items.len());
    let mut refused = Vec::with_capacity(items.len());
    for item in items {
        refused.push(item.map(|item| good.push(item)).err());
    }
    let mut answers = if good.is_empty() { Vec::new() } else { work(good).await? }.into_iter();
    Ok(refused
        .into_iter()
        .map(|refused| match refused {
            Some(error) => Err(ItemError::Sent(error)),
            None => answers.next().unwrap_or(Err(StoreError::Closed)).map_err(ItemError::Store),
        })
        .collect())
}

fn log_entry(entry: &EntryRecord, by: &Peer, what: &str) {
    tracing::info!(entry = entry.id, spiffe_id = %entry.spiffe_id, parent_id = %entry.parent_id, %by, "{what}");
}
