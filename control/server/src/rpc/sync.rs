//! SyncAuthorizedEntries: what an agent is authorized for, and when that is more than one page, first what
//! there is and then what the agent asks for.
//!
//! A page has at most 500 entries, as in SPIRE, and at most 2 MiB, so that no message is over the 4 MiB that
//! gRPC libraries take.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use prost::Message as _;
use svidecar_api::spire::api::{
    server::entry::v1::{EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse},
    types::{Entry, EntryMask},
};
use tokio::time;
use tonic::{Status, Streaming};

use super::entry_fields;
use crate::store::EntryRecord;

/// Most entries or revisions in one message.
pub const PAGE: usize = 500;

/// How long an agent may take to ask for more, or to end the exchange.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of entries in one message.
pub const PAGE_BYTES: usize = 2 << 20;

/// One run of the protocol: yields responses, reads a request whenever it has nothing more to say.
pub struct Sync {
    requests: Streaming<SyncAuthorizedEntriesRequest>,
    mask: Option<EntryMask>,
    /// All that the agent is authorized for, ordered by ID.
    entries: Vec<Arc<EntryRecord>>,
    replies: VecDeque<SyncAuthorizedEntriesResponse>,
    asked: Option<Pages>,
    done: bool,
}

impl Sync {
    /// Reads the first request and prepares the answer to it.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when the request has IDs, or masks the revision that all hangs on.
    pub async fn begin(
        mut requests: Streaming<SyncAuthorizedEntriesRequest>,
        entries: Vec<Arc<EntryRecord>>,
    ) -> Result<Self, Status> {
        let first = requests.message().await?.unwrap_or_default();
        if !first.ids.is_empty() {
            return Err(Status::invalid_argument("specifying IDs on initial request is not supported"));
        }
        if first.output_mask.is_some_and(|mask| !mask.revision_number) {
            return Err(Status::invalid_argument("revision number cannot be masked"));
        }
        let mut sync = Self {
            requests,
            mask: first.output_mask,
            entries,
            replies: VecDeque::new(),
            asked: None,
            done: false,
        };
        match sync.whole() {
            Some(entries) => {
                sync.replies.push_back(SyncAuthorizedEntriesResponse { entries, ..Default::default() });
                sync.done = true;
            }
            None => sync.replies = revisions(&sync.entries),
        }
        Ok(sync)
    }

    /// All entries, when they fit one message.
    fn whole(&self) -> Option<Vec<Entry>> {
        if self.entries.len() > PAGE {
            return None;
        }
        let mut bytes = 0;
        let mut whole = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let entry = entry_fields::to_proto_masked(entry, self.mask.as_ref());
            bytes += entry.encoded_len();
            if bytes > PAGE_BYTES {
                return None;
            }
            whole.push(entry);
        }
        Some(whole)
    }

    /// The next message, `None` at the end.
    ///
    /// # Errors
    /// The agent's stream broke.
    pub async fn next(&mut self) -> Result<Option<SyncAuthorizedEntriesResponse>, Status> {
        if let Some(reply) = self.replies.pop_front() {
            return Ok(Some(reply));
        }
        if self.done {
            return Ok(None);
        }
        let mut pages = match self.asked.take() {
            Some(pages) => pages,
            None => match self.request().await? {
                Some(request) => Pages::of(request.ids, &self.entries),
                None => return Ok(None),
            },
        };
        let reply = pages.next(self.mask.as_ref());
        if reply.more {
            self.asked = Some(pages);
        }
        Ok(Some(reply))
    }
}

impl Sync {
    async fn request(&mut self) -> Result<Option<SyncAuthorizedEntriesRequest>, Status> {
        time::timeout(PATIENCE, self.requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the agent asked for nothing within 60 seconds"))?
    }
}

fn revisions(entries: &[Arc<EntryRecord>]) -> VecDeque<SyncAuthorizedEntriesResponse> {
    let mut replies: VecDeque<_> = entries
        .chunks(PAGE)
        .map(|page| SyncAuthorizedEntriesResponse {
            entry_revisions: page
                .iter()
                .map(|entry| EntryRevision {
                    id: entry.id.clone(),
                    revision_number: entry.revision,
                    created_at: entry.created_at,
                })
                .collect(),
            more: true,
            ..Default::default()
        })
        .collect();
    if let Some(last) = replies.back_mut() {
        last.more = false;
    }
    replies
}

/// Entries that were asked for and are still to be sent.
struct Pages(VecDeque<Arc<EntryRecord>>);

impl Pages {
    /// Those of the IDs that the agent is authorized for.
    fn of(mut ids: Vec<String>, entries: &[Arc<EntryRecord>]) -> Self {
        ids.sort_unstable();
        ids.dedup();
        let find = |id: &String| {
            let position = entries.binary_search_by(|entry| entry.id.cmp(id)).ok()?;
            entries.get(position).cloned()
        };
        Self(ids.iter().filter_map(find).collect())
    }

    fn next(&mut self, mask: Option<&EntryMask>) -> SyncAuthorizedEntriesResponse {
        let mut page = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.0.front() {
            let entry = entry_fields::to_proto_masked(entry, mask);
            bytes += entry.encoded_len();
            // A single entry always goes, whatever its size.
            if page.len() == PAGE || (bytes > PAGE_BYTES && !page.is_empty()) {
                break;
            }
            page.push(entry);
            self.0.pop_front();
        }
        SyncAuthorizedEntriesResponse { entries: page, more: !self.0.is_empty(), ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use svidecar_id::SpiffeId;

    use super::*;
    use crate::store::Selector;

    fn entries(count: usize, hint: usize) -> Vec<Arc<EntryRecord>> {
        let id = SpiffeId::parse("spiffe://demo.org/x").unwrap();
        (0..count)
            .map(|number| {
                let mut entry = EntryRecord::new(id.clone(), id.clone(), vec![Selector::new("a", "b")]);
                entry.id = format!("{number:05}");
                entry.hint = "x".repeat(hint);
                Arc::new(entry)
            })
            .collect()
    }

    fn pages(asked: &[String], entries: &[Arc<EntryRecord>]) -> Vec<usize> {
        let mut pages = Pages::of(asked.to_vec(), entries);
        let mut sizes = Vec::new();
        loop {
            let page = pages.next(None);
            assert!(page.encoded_len() < 3 << 20);
            sizes.push(page.entries.len());
            if !page.more {
                return sizes;
            }
        }
    }

    #[test]
    fn pages_are_bounded_in_number_and_bytes() {
        let ids = |count: usize| (0..count).map(|number| format!("{number:05}")).collect::<Vec<_>>();
        assert_eq!(pages(&ids(0), &entries(3, 0)), [0]);
        assert_eq!(pages(&ids(500), &entries(501, 0)), [500]);
        assert_eq!(pages(&ids(501), &entries(501, 0)), [500, 1]);
        assert_eq!(pages(&ids(3), &entries(3, 1 << 20)), [1, 1, 1]);
    }

    #[test]
    fn unknown_and_repeated_ids_are_passed_over() {
        let asked = ["zzz", "00001", "00001"].map(str::to_owned);
        assert_eq!(pages(&asked, &entries(3, 0)), [1]);
    }

    #[test]
    fn revisions_come_in_pages_and_the_last_says_so() {
        let replies = revisions(&entries(1001, 0));
        let shape: Vec<_> = replies.iter().map(|reply| (reply.entry_revisions.len(), reply.more)).collect();
        assert_eq!(shape, [(500, true), (500, true), (1, false)]);
    }
}
