//! The files: what they may say, and the entries that they mean.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::Deserialize;
use svidecar_api::spire::api::types::Entry;
use svidecar_config::{
    HumanDuration,
    diagnostic::Diagnostics,
    load::{Document, read_document},
    problems::Problems,
};

use crate::cli::{CliError, files, values};

/// Most files of one call.
const MAX_FILES: usize = 10_000;
/// Bytes of the hash in an entry ID: enough that no two entries meet, short enough to read.
const HASH_BYTES: usize = 16;

/// A file of entries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntriesFile {
    /// The entries.
    entries: Vec<DeclaredEntry>,
}

/// One entry. The names are those of SPIRE's API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeclaredEntry {
    /// The SPIFFE ID that the workload gets.
    spiffe_id: String,
    /// The SPIFFE ID of the parent: an agent, or a node alias.
    parent_id: String,
    /// What the workload must show, `type:value` each.
    selectors: Vec<String>,
    /// Lifetime of its X.509-SVIDs.
    #[serde(default)]
    x509_svid_ttl: Option<HumanDuration>,
    /// Lifetime of its JWT-SVIDs.
    #[serde(default)]
    jwt_svid_ttl: Option<HumanDuration>,
    /// Trust domains to federate with.
    #[serde(default)]
    federates_with: Vec<String>,
    /// DNS names of its X.509-SVIDs.
    #[serde(default)]
    dns_names: Vec<String>,
    /// May administer the server over TCP.
    #[serde(default)]
    admin: bool,
    /// May have a CA certificate signed.
    #[serde(default)]
    downstream: bool,
    /// Tells the workload which of its SVIDs this is.
    #[serde(default)]
    hint: String,
    /// When the entry ends, in seconds since 1970.
    #[serde(default)]
    expires_at: i64,
    /// The SVID is meant for an SVID store.
    #[serde(default)]
    store_svid: bool,
    /// Agents issue the X.509-SVID only when it is asked for.
    #[serde(default)]
    disable_x509_svid_prefetch: bool,
    /// JWT-SVIDs carry a unique `jti`.
    #[serde(default)]
    jwt_svid_include_jti: bool,
}

/// Reads all files. All that is wrong in all of them comes at once.
pub(crate) fn read(paths: &[PathBuf], owner: &str) -> Result<Vec<Entry>, CliError> {
    let mut entries = Vec::new();
    let mut seen = HashMap::new();
    let mut wrong = Vec::new();
    for path in list_files(paths)? {
        let text = files::read_text(&path)?;
        match parse(&text, files::display_name(&path), owner, &mut seen) {
            Ok(more) => entries.extend(more),
            Err(problems) => wrong.extend(problems),
        }
    }
    Diagnostics::check(wrong)?;
    Ok(entries)
}

/// The files of directories, in the order of their names.
fn list_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let failed = |error| CliError::File { doing: "cannot read", path: path.clone(), error };
        let mut inside = Vec::new();
        for item in fs::read_dir(path).map_err(failed)? {
            let file = item.map_err(failed)?.path();
            if file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json") {
                inside.push(file);
            }
        }
        inside.sort();
        all.extend(inside);
    }
    if all.len() > MAX_FILES {
        return Err(CliError::Message(format!("{} files; at most {MAX_FILES} are read", all.len())));
    }
    Ok(all)
}

/// The entries of one file. `seen` has where each entry ID stands, in this file and those before.
pub(super) fn parse(
    text: &str,
    file: &Path,
    owner: &str,
    seen: &mut HashMap<String, String>,
) -> Result<Vec<Entry>, Diagnostics> {
    let document: Document<EntriesFile> = read_document(text, file)?;
    let mut problems = Problems::default();
    let mut entries = Vec::new();
    for (position, declared) in document.value.entries.iter().enumerate() {
        let key = format!("entries[{position}]");
        let Some(entry) = declared.to_message(owner, &key, &mut problems) else { continue };
        let place = format!("{}, {key}", file.display());
        match seen.insert(entry.id.clone(), place) {
            None => entries.push(entry),
            Some(other) => problems.add_with_help(
                format!("{key}.spiffe_id"),
                format!("the same SPIFFE ID, parent ID and selectors as in {other}"),
                "remove one of them, or make their selectors different",
            ),
        }
    }
    document.place(problems)?;
    Ok(entries)
}

impl DeclaredEntry {
    fn to_message(&self, owner: &str, key: &str, problems: &mut Problems) -> Option<Entry> {
        let mut ok = true;
        let mut id = |field: &str, text: &str| match values::spiffe_id(text) {
            Ok(id) => Some(id),
            Err(error) => {
                problems.add(format!("{key}.{field}"), error.to_string());
                ok = false;
                None
            }
        };
        let spiffe_id = id("spiffe_id", &self.spiffe_id);
        let parent_id = id("parent_id", &self.parent_id);
        let mut selectors = Vec::new();
        for (position, text) in self.selectors.iter().enumerate() {
            match values::selector(text) {
                Ok(selector) if !selectors.contains(&selector) => selectors.push(selector),
                Ok(_) => {}
                Err(error) => {
                    problems.add(format!("{key}.selectors[{position}]"), error.to_string());
                    ok = false;
                }
            }
        }
        if self.selectors.is_empty() {
            problems.add(format!("{key}.selectors"), "at least one selector is required");
            ok = false;
        }
        let mut ttl = |field: &str, duration: Option<HumanDuration>| {
            values::whole_seconds(duration.unwrap_or(HumanDuration::from_secs(0))).unwrap_or_else(|| {
                problems.add(format!("{key}.{field}"), "the duration is too long");
                ok = false;
                0
            })
        };
        let x509_svid_ttl = ttl("x509_svid_ttl", self.x509_svid_ttl);
        let jwt_svid_ttl = ttl("jwt_svid_ttl", self.jwt_svid_ttl);
        let mut entry = Entry {
            id: String::new(),
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl,
            jwt_svid_ttl,
            federates_with: self.federates_with.clone(),
            admin: self.admin,
            downstream: self.downstream,
            expires_at: self.expires_at,
            dns_names: self.dns_names.clone(),
            revision_number: 0,
            store_svid: self.store_svid,
            hint: self.hint.clone(),
            created_at: 0,
            additional_attributes: values::additional_attributes(
                self.disable_x509_svid_prefetch,
                self.jwt_svid_include_jti,
            ),
        };
        entry.id = entry_id(owner, &entry);
        ok.then_some(entry)
    }
}

/// `apply.OWNER.HASH`.
fn entry_id(owner: &str, entry: &Entry) -> String {
    let mut selectors: Vec<_> =
        entry.selectors.iter().map(|selector| format!("{}:{}", selector.r#type, selector.value)).collect();
    selectors.sort();
    // None of the parts can hold a line feed or be cut at another place: IDs have none, and the count comes first.
    let mut hash = Context::new(&SHA256);
    hash.update(values::id_text(entry.spiffe_id.as_ref()).as_bytes());
    hash.update(b"\n");
    hash.update(values::id_text(entry.parent_id.as_ref()).as_bytes());
    for selector in selectors {
        hash.update(format!("\n{}:", selector.len()).as_bytes());
        hash.update(selector.as_bytes());
    }
    let mut id = prefix(owner);
    for byte in hash.finish().as_ref().iter().take(HASH_BYTES) {
        // Writing into a String cannot fail.
        let _written = write!(id, "{byte:02x}");
    }
    id
}

/// What the IDs of an owner's entries begin with.
pub(super) fn prefix(owner: &str) -> String {
    format!("apply.{owner}.")
}
