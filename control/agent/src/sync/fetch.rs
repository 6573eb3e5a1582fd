//! The state of the moment, asked for: `SyncAuthorizedEntries` and the bundle calls, as SPIRE's agents do.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use svidecar_api::spire::api::{
    server::entry::v1::{
        EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse, entry_client::EntryClient,
    },
    types,
};
use svidecar_id::TrustDomain;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::Sync;
use crate::{
    cache::Change,
    entry::{self, Entry, EntryId},
    error::AgentError,
    server::{CALL_TIMEOUT, MAX_MESSAGE},
};

const WHAT: &str = "SyncAuthorizedEntries";

/// Entries asked for in one request, as SPIRE's agents do.
const PAGE: usize = 500;

/// Federated bundles asked for at the same time.
const BUNDLES_AT_ONCE: usize = 8;

impl Sync {
    /// Asks for all entries and bundles and applies them. Whether that changed anything: then what was pushed before is not what
    /// the agent has any more, and the server must not go on from there. It would never speak of an entry again that was
    /// made and deleted between two of its looks.
    pub(super) async fn fetch(&mut self) -> Result<bool, AgentError> {
        let session = self.manager.link.session();
        let known: HashMap<EntryId, Arc<Entry>> =
            self.manager.cache().entries().map(|entry| (Arc::clone(&entry.id), Arc::clone(entry))).collect();
        let known = Arc::new(known);
        let fetch = |channel| fetch_entries(channel, Arc::clone(&known));
        let entries = session.call(WHAT, 2 * CALL_TIMEOUT, fetch).await?;
        let mut bundles = vec![session.bundle().await?];
        let federated: BTreeSet<TrustDomain> =
            entries.iter().flat_map(|entry| entry.federates_with.iter().cloned()).collect();
        let own = &self.manager.link.address().trust_domain;
        let wanted: Vec<_> = federated.iter().filter(|td| *td != own).collect();
        for some in wanted.chunks(BUNDLES_AT_ONCE) {
            let calls = some.iter().map(|td| session.federated_bundle(td.as_str()));
            for bundle in futures_util::future::try_join_all(calls).await? {
                bundles.extend(bundle);
            }
        }
        let change = Change { snapshot: true, entries, bundles, ..Change::default() };
        let applied = self.manager.apply(change);
        tracing::debug!(
            created = applied.created,
            updated = applied.updated,
            deleted = applied.deleted,
            "state fetched"
        );
        if applied.changed() {
            self.resume_token.clear();
        }
        Ok(applied.changed())
    }
}

/// All entries that the agent is authorized for; of many only those that changed are sent.
async fn fetch_entries(
    channel: Channel,
    known: Arc<HashMap<EntryId, Arc<Entry>>>,
) -> Result<Vec<Entry>, Status> {
    let mut client = EntryClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let (requests, outgoing) = mpsc::channel(1);
    let first = SyncAuthorizedEntriesRequest { output_mask: Some(mask()), ids: Vec::new() };
    // The receiver is held by the stream: sending fails only with the stream, which then says why.
    let _ = requests.send(first).await;
    let mut stream = client.sync_authorized_entries(ReceiverStream::new(outgoing)).await?.into_inner();

    let mut entries = Vec::new();
    let mut revisions = Vec::new();
    loop {
        let page = next(&mut stream).await?;
        entries.extend(read_entries(page.entries));
        revisions.extend(page.entry_revisions);
        if !page.more {
            break;
        }
    }
    let mut wanted = Vec::new();
    for revision in revisions {
        match known.get(revision.id.as_str()).filter(|entry| is_current(entry, &revision)) {
            Some(entry) => entries.push(Entry::clone(entry)),
            None => wanted.push(revision.id),
        }
    }
    for ids in wanted.chunks(PAGE) {
        let request = SyncAuthorizedEntriesRequest { output_mask: None, ids: ids.to_vec() };
        let _ = requests.send(request).await;
        loop {
            let page = next(&mut stream).await?;
            entries.extend(read_entries(page.entries));
            if !page.more {
                break;
            }
        }
    }
    Ok(entries)
}

async fn next(
    stream: &mut Streaming<SyncAuthorizedEntriesResponse>,
) -> Result<SyncAuthorizedEntriesResponse, Status> {
    let message = stream.message().await?;
    message.ok_or_else(|| Status::unavailable("the server ended the exchange before it was complete"))
}

/// Another creation time under the same ID is another entry; servers before SPIRE 1.9 do not send it.
fn is_current(entry: &Entry, revision: &EntryRevision) -> bool {
    entry.revision == revision.revision_number
        && (revision.created_at == 0 || entry.created_at == revision.created_at)
}

/// Reads entries; one that cannot be used is left out and said.
pub fn read_entries(wire: Vec<types::Entry>) -> impl Iterator<Item = Entry> {
    wire.into_iter().filter(entry::is_for_workloads).filter_map(|wire| {
        let id = wire.id.clone();
        Entry::try_from(wire)
            .inspect_err(
                |error| tracing::warn!(entry_id = id, %error, "an entry from the server cannot be used"),
            )
            .ok()
    })
}

/// What an agent needs of an entry.
fn mask() -> types::EntryMask {
    types::EntryMask {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        federates_with: true,
        revision_number: true,
        store_svid: true,
        hint: true,
        created_at: true,
        additional_attributes: true,
        ..Default::default()
    }
}
