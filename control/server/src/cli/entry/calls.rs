//! The Entry service's calls, as commands make them: whole listings, and batches that fit a message.

use svidecar_api::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest, BatchDeleteEntryResponse,
        BatchUpdateEntryRequest, BatchUpdateEntryResponse, ListEntriesRequest, entry_client::EntryClient,
        list_entries_request,
    },
    types::{self, Entry},
};
use tonic::transport::Channel;

use crate::cli::CliError;

/// Entries per page of a listing.
const PAGE: i32 = 500;
/// Entries per call that changes them: far below gRPC's 4 MiB.
const BATCH: usize = 200;

/// All pages as one.
pub(crate) async fn list(
    client: &mut EntryClient<Channel>,
    filter: Option<list_entries_request::Filter>,
) -> Result<Vec<Entry>, CliError> {
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListEntriesRequest { filter: filter.clone(), output_mask: None, page_size: PAGE, page_token };
        let page = client
            .list_entries(request)
            .await
            .map_err(CliError::doing("error fetching entries"))?
            .into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

/// Creates entries. A result that failed carries the entry that was asked for.
pub(crate) async fn create(
    client: &mut EntryClient<Channel>,
    entries: Vec<Entry>,
) -> Result<BatchCreateEntryResponse, CliError> {
    let mut all = BatchCreateEntryResponse::default();
    for batch in entries.chunks(BATCH) {
        let request = BatchCreateEntryRequest { entries: batch.to_vec(), output_mask: None };
        let mut results = client.batch_create_entry(request).await?.into_inner().results;
        for (result, asked) in results.iter_mut().zip(batch) {
            if failed(result.status.as_ref()).is_some() {
                result.entry = Some(asked.clone());
            }
        }
        all.results.extend(results);
    }
    Ok(all)
}

/// Updates entries. A result that failed carries the entry that was asked for.
pub(crate) async fn update(
    client: &mut EntryClient<Channel>,
    entries: Vec<Entry>,
) -> Result<BatchUpdateEntryResponse, CliError> {
    let mut all = BatchUpdateEntryResponse::default();
    for batch in entries.chunks(BATCH) {
        let request =
            BatchUpdateEntryRequest { entries: batch.to_vec(), input_mask: None, output_mask: None };
        let mut results = client.batch_update_entry(request).await?.into_inner().results;
        for (result, asked) in results.iter_mut().zip(batch) {
            if failed(result.status.as_ref()).is_some() {
                result.entry = Some(asked.clone());
            }
        }
        all.results.extend(results);
    }
    Ok(all)
}

pub(crate) async fn delete(
    client: &mut EntryClient<Channel>,
    ids: Vec<String>,
) -> Result<BatchDeleteEntryResponse, CliError> {
    let mut all = BatchDeleteEntryResponse::default();
    for batch in ids.chunks(BATCH) {
        let request = BatchDeleteEntryRequest { ids: batch.to_vec() };
        all.results.extend(client.batch_delete_entry(request).await?.into_inner().results);
    }
    Ok(all)
}

/// The status of a result that failed.
pub(crate) fn failed(status: Option<&types::Status>) -> Option<&types::Status> {
    status.filter(|status| status.code != 0)
}
