//! The fields of an entry as flags of `entry create` and `entry update`.

use std::path::PathBuf;

use clap::Args;
use svidecar_api::spire::api::{
    server::entry::v1::{GetEntryRequest, entry_client::EntryClient},
    types::{Entry, Spiffeid},
};
use svidecar_process::console::OutputArgs;
use tonic::transport::Channel;

use super::data;
use crate::cli::{CliError, ServerSocket, values};

/// The path of a server's own SPIFFE ID, the parent of node aliases.
const SERVER_ID_PATH: &str = "/spire/server";

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    fields: Fields,
    /// The entry is for nodes that match the selectors, not for workloads
    #[arg(long)]
    node: bool,
}

#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    fields: Fields,
}

#[derive(Args, Debug)]
struct Fields {
    /// The entry's ID; a new one is chosen when it is not given
    #[arg(long, value_name = "ID")]
    entry_id: Option<String>,
    /// The SPIFFE ID of the parent: an agent, or a node alias
    #[arg(long, value_name = "ID")]
    parent_id: Option<String>,
    /// The SPIFFE ID that the workload gets
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,
    /// What the workload must show, type:value (repeatable; all must match)
    #[arg(long, value_name = "SELECTOR")]
    selector: Vec<String>,
    /// Lifetime of its X.509-SVIDs, in seconds or as a duration (1h)
    #[arg(long, value_name = "TTL", value_parser = values::seconds, allow_negative_numbers = true)]
    x509_svid_ttl: Option<i32>,
    /// Lifetime of its JWT-SVIDs, in seconds or as a duration (5m)
    #[arg(long, value_name = "TTL", value_parser = values::seconds, allow_negative_numbers = true)]
    jwt_svid_ttl: Option<i32>,
    /// Lifetime of both, where they have none of their own
    #[arg(long, value_name = "TTL", value_parser = values::seconds, allow_negative_numbers = true, hide = true)]
    ttl: Option<i32>,
    /// A trust domain to federate with (repeatable)
    #[arg(long, value_name = "TRUST_DOMAIN")]
    federates_with: Vec<String>,
    /// A DNS name for its X.509-SVIDs (repeatable)
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// The workload may administer the server over TCP
    #[arg(long)]
    admin: bool,
    /// The workload is a downstream server, which may have a CA certificate signed
    #[arg(long)]
    downstream: bool,
    /// When the entry ends, in seconds since 1970
    #[arg(long, value_name = "UNIX_SECONDS", default_value_t = 0)]
    entry_expiry: i64,
    /// Tells the workload which of its SVIDs this is
    #[arg(long, default_value = "")]
    hint: String,
    /// The SVID is meant for an SVID store
    #[arg(long)]
    store_svid: bool,
    /// Agents issue the X.509-SVID only when it is asked for
    #[arg(long)]
    disable_x509_svid_prefetch: bool,
    /// JWT-SVIDs carry a unique `jti`
    #[arg(long)]
    jwt_svid_include_jti: bool,
    /// A JSON file with entries, in place of the flags above; `-` is stdin
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

impl CreateArgs {
    pub(super) const fn server(&self) -> &ServerSocket {
        &self.fields.server
    }

    pub(super) const fn output(&self) -> OutputArgs {
        self.fields.output
    }

    /// The entries to create.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, CliError> {
        let fields = &self.fields;
        if let Some(file) = &fields.data {
            return data::entries(file);
        }
        require(!fields.selector.is_empty(), "at least one selector is required")?;
        require(!self.node || fields.federates_with.is_empty(), "node entries can not federate")?;
        require(
            self.node || fields.parent_id.is_some(),
            "a parent ID is required if the node flag is not set",
        )?;
        let mut entry = fields.entry()?;
        if self.node {
            let trust_domain = entry.spiffe_id.as_ref().map(|id| id.trust_domain.clone()).unwrap_or_default();
            entry.parent_id = Some(Spiffeid { trust_domain, path: SERVER_ID_PATH.to_owned() });
        }
        Ok(vec![entry])
    }
}

impl UpdateArgs {
    pub(super) const fn server(&self) -> &ServerSocket {
        &self.fields.server
    }

    pub(super) const fn output(&self) -> OutputArgs {
        self.fields.output
    }

    /// The entries as they shall be. The additional attributes share one field of the API: when one is given,
    /// the other is fetched, not to be lost.
    pub(super) async fn entries(&self, client: &mut EntryClient<Channel>) -> Result<Vec<Entry>, CliError> {
        if let Some(file) = &self.fields.data {
            return data::entries(file);
        }
        let mut entry = self.entry()?;
        if let Some(asked) = &mut entry.additional_attributes {
            let request = GetEntryRequest { id: entry.id.clone(), output_mask: None };
            let existing = client
                .get_entry(request)
                .await
                .map_err(CliError::doing("failed to fetch existing entry to merge additional attributes"))?
                .into_inner()
                .additional_attributes
                .unwrap_or_default();
            asked.disable_x509_svid_prefetch |= existing.disable_x509_svid_prefetch;
            asked.jwt_svid_include_jti |= existing.jwt_svid_include_jti;
        }
        Ok(vec![entry])
    }

    fn entry(&self) -> Result<Entry, CliError> {
        let fields = &self.fields;
        require(fields.entry_id.is_some(), "entry ID is required")?;
        require(!fields.selector.is_empty(), "at least one selector is required")?;
        require(fields.parent_id.is_some(), "a parent ID is required")?;
        fields.entry()
    }
}

impl Fields {
    fn entry(&self) -> Result<Entry, CliError> {
        let spiffe_id =
            self.spiffe_id.as_deref().ok_or_else(|| CliError::message("a SPIFFE ID is required"))?;
        Ok(Entry {
            id: self.entry_id.clone().unwrap_or_default(),
            spiffe_id: Some(values::spiffe_id(spiffe_id)?),
            parent_id: self.parent_id.as_deref().map(values::spiffe_id).transpose()?,
            selectors: values::selectors(&self.selector)?,
            x509_svid_ttl: self.x509_svid_ttl.or(self.ttl).unwrap_or_default(),
            jwt_svid_ttl: self.jwt_svid_ttl.or(self.ttl).unwrap_or_default(),
            federates_with: self.federates_with.clone(),
            admin: self.admin,
            downstream: self.downstream,
            expires_at: self.entry_expiry,
            dns_names: self.dns.clone(),
            revision_number: 0,
            store_svid: self.store_svid,
            hint: self.hint.clone(),
            created_at: 0,
            additional_attributes: values::additional_attributes(
                self.disable_x509_svid_prefetch,
                self.jwt_svid_include_jti,
            ),
        })
    }
}

fn require(holds: bool, otherwise: &str) -> Result<(), CliError> {
    if holds { Ok(()) } else { Err(CliError::message(otherwise)) }
}
