//! How long after `entry create` a running workload holds its new SVID.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use svidecar_api::WORKLOAD_API_HEADER;
use svidecar_api::spire::api::server::entry::v1::entry_client::EntryClient;
use svidecar_api::spire::api::server::entry::v1::{BatchCreateEntryRequest, BatchDeleteEntryRequest};
use svidecar_api::spire::api::types::{Entry, Selector, Spiffeid};
use svidecar_api::transport::uds;
use svidecar_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svidecar_api::workload::{X509svidRequest, X509svidResponse};
use svidecar_process::clock;
use svidecar_stack::{PATIENCE, Stack, StackOptions};
use tonic::Streaming;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::results::{Column, Row};

/// How many entries are created, one after the other.
const ENTRIES: usize = 200;

/// Creates entries for an open stream of this very process, and takes the time to each new SVID.
pub async fn measure() -> Result<(Vec<Column>, Vec<Row>)> {
    let stack = Stack::start(StackOptions::default()).await?;
    let selector = format!("unix:uid:{}", nix::unistd::getuid());
    // The stream is open before the first measured entry, as a running workload's is.
    stack.register("spiffe://demo.org/workload", &selector, &[]).await?;
    let channel = uds::connect(stack.agent_socket()).await?;
    let mut request = tonic::Request::new(X509svidRequest {});
    request.metadata_mut().insert(WORKLOAD_API_HEADER, MetadataValue::from_static("true"));
    let mut stream = SpiffeWorkloadApiClient::new(channel).fetch_x509svid(request).await?.into_inner();
    until(&mut stream, |update| update.svids.len() == 1).await?;

    let mut entries = EntryClient::new(uds::connect(stack.server_socket()).await?);
    let mut pushed = Row::new("entry created → SVID in the stream".to_owned(), 1);
    let mut withdrawn = Row::new("entry deleted → SVID gone from the stream".to_owned(), 1);
    for number in 0..ENTRIES {
        let path = format!("/bench/{number}");
        let id = format!("spiffe://demo.org{path}");
        let start = clock::monotonic();
        let entry = create(&mut entries, &path).await?;
        until(&mut stream, |update| update.svids.iter().any(|svid| svid.spiffe_id == id)).await?;
        pushed.add(&[(clock::monotonic() - start).as_secs_f64() * 1e3]);

        let start = clock::monotonic();
        entries.batch_delete_entry(BatchDeleteEntryRequest { ids: vec![entry] }).await?;
        until(&mut stream, |update| update.svids.len() == 1).await?;
        withdrawn.add(&[(clock::monotonic() - start).as_secs_f64() * 1e3]);
    }
    let rows = [pushed, withdrawn].map(|row| {
        let mut percentiles = Row::new(row.label.clone(), 3);
        percentiles.add(&[50, 99, 100].map(|percent| row.percentile(percent).unwrap_or(f64::NAN)));
        percentiles
    });
    Ok((vec![Column::new("p50 ms", 1), Column::new("p99 ms", 1), Column::new("max ms", 1)], rows.into()))
}

/// Creates an entry for this process and returns its ID.
async fn create(entries: &mut EntryClient<Channel>, path: &str) -> Result<String> {
    let spiffe_id =
        |path: &str| Spiffeid { trust_domain: Stack::TRUST_DOMAIN.to_owned(), path: path.to_owned() };
    let entry = Entry {
        spiffe_id: Some(spiffe_id(path)),
        parent_id: Some(spiffe_id("/node")),
        selectors: vec![Selector {
            r#type: "unix".to_owned(),
            value: format!("uid:{}", nix::unistd::getuid()),
        }],
        ..Entry::default()
    };
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let results = entries.batch_create_entry(request).await?.into_inner().results;
    let result = results.into_iter().next().context("no result")?;
    ensure!(result.status.is_some_and(|status| status.code == 0), "the server refused the entry");
    Ok(result.entry.context("no entry in the result")?.id)
}

/// Reads the stream up to the update that is wanted.
async fn until(
    stream: &mut Streaming<X509svidResponse>,
    wanted: impl Fn(&X509svidResponse) -> bool,
) -> Result<()> {
    let search = async {
        while let Some(update) = stream.message().await? {
            if wanted(&update) {
                return Ok(());
            }
        }
        anyhow::bail!("the agent ended the stream")
    };
    let limit: Duration = PATIENCE;
    tokio::time::timeout(limit, search).await.context("the update never came")?
}
