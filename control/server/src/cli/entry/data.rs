//! Entries and entry IDs in files, as SPIRE's `-data` and `-file` read them.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use svidecar_api::spire::api::types::{Entry, Selector};
use svidecar_config::load::read_document;

use crate::cli::{CliError, files, values};

/// `{"entries": […]}`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DataFile {
    entries: Vec<DataEntry>,
}

/// An entry with the field names of SPIRE's registration files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DataEntry {
    entry_id: String,
    spiffe_id: String,
    parent_id: String,
    selectors: Vec<DataSelector>,
    x509_svid_ttl: i32,
    jwt_svid_ttl: i32,
    federates_with: Vec<String>,
    admin: bool,
    downstream: bool,
    /// The name it has in SPIRE's files, the only one that is not in snake case.
    #[serde(rename = "entryExpiry")]
    entry_expiry: i64,
    dns_names: Vec<String>,
    revision_number: i64,
    store_svid: bool,
    hint: String,
    created_at: i64,
    additional_attributes: DataAttributes,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DataSelector {
    r#type: String,
    value: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DataAttributes {
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
}

/// `{"ids": […]}`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IdsFile {
    ids: Vec<String>,
}

/// The entries of a file.
pub(super) fn entries(file: &Path) -> Result<Vec<Entry>, CliError> {
    parse_entries(&files::read_text(file)?, files::display_name(file))
}

/// The entry IDs of a file.
pub(super) fn ids(file: &Path) -> Result<Vec<String>, CliError> {
    Ok(read_document::<IdsFile>(&files::read_text(file)?, files::display_name(file))?.value.ids)
}

pub(super) fn parse_entries(text: &str, file: &Path) -> Result<Vec<Entry>, CliError> {
    read_document::<DataFile>(text, file)?.value.entries.into_iter().map(DataEntry::into_message).collect()
}

impl DataEntry {
    fn into_message(self) -> Result<Entry, CliError> {
        Ok(Entry {
            id: self.entry_id,
            spiffe_id: Some(values::spiffe_id(&self.spiffe_id)?),
            parent_id: Some(values::spiffe_id(&self.parent_id)?),
            selectors: self
                .selectors
                .into_iter()
                .map(|selector| Selector { r#type: selector.r#type, value: selector.value })
                .collect(),
            x509_svid_ttl: self.x509_svid_ttl,
            jwt_svid_ttl: self.jwt_svid_ttl,
            federates_with: self.federates_with,
            admin: self.admin,
            downstream: self.downstream,
            expires_at: self.entry_expiry,
            dns_names: self.dns_names,
            revision_number: self.revision_number,
            store_svid: self.store_svid,
            hint: self.hint,
            created_at: self.created_at,
            additional_attributes: values::additional_attributes(
                self.additional_attributes.disable_x509_svid_prefetch,
                self.additional_attributes.jwt_svid_include_jti,
            ),
        })
    }
}
