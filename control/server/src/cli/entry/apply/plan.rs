//! What has to change: the entries that files want against those that the server has. Pure.

use std::collections::HashMap;

use svidecar_api::spire::api::types::{AdditionalAttributes, Entry};

use super::document::prefix;
use crate::cli::{CliError, values};

/// What `apply` does.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Entries to create.
    pub(crate) create: Vec<Entry>,
    /// Entries to change.
    pub(crate) update: Vec<Change>,
    /// Entries of the owner that no file has any more.
    pub(crate) stale: Vec<Entry>,
    /// How many are as they should be.
    pub(crate) unchanged: usize,
}

/// An entry that has to change.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    /// As it shall be.
    pub(crate) to: Entry,
    /// The fields that differ: name, old, new.
    pub(super) fields: Vec<(&'static str, String, String)>,
}

/// What makes an entry what it is.
type Identity = (String, String, Vec<(String, String)>);

impl Plan {
    /// Compares.
    ///
    /// # Errors
    /// Entries that somebody else made stand where the files want other ones.
    pub(crate) fn new(wanted: Vec<Entry>, existing: Vec<Entry>, owner: &str) -> Result<Self, CliError> {
        let mut by_id = HashMap::new();
        let mut by_identity: HashMap<Identity, Vec<Entry>> = HashMap::new();
        for entry in existing {
            by_identity.entry(identity(&entry)).or_default().push(entry.clone());
            by_id.insert(entry.id.clone(), entry);
        }
        let mut plan = Self::default();
        let mut foreign = Vec::new();
        for entry in wanted {
            if let Some(ours) = by_id.remove(&entry.id) {
                plan.compare(&ours, entry);
                continue;
            }
            // The server keeps one entry of an identity; one that somebody else made will do if it says the same.
            match by_identity.get(&identity(&entry)).and_then(|similar| similar.first()) {
                None => plan.create.push(entry),
                Some(similar) if differences(similar, &entry).is_empty() => plan.unchanged += 1,
                Some(similar) => foreign.push(format!(
                    "  {} exists as entry {}, which no file of owner `{owner}` made, with another {}",
                    name(Some(&entry)),
                    similar.id,
                    differences(similar, &entry)
                        .iter()
                        .map(|(field, ..)| *field)
                        .collect::<Vec<_>>()
                        .join(", "),
                )),
            }
        }
        if !foreign.is_empty() {
            return Err(CliError::Message(format!(
                "these entries belong to somebody else; nothing was changed:\n{}\n  Delete them with `entry delete`, \
                 or take them out of the files",
                foreign.join("\n")
            )));
        }
        let prefix = prefix(owner);
        plan.stale = by_id.into_values().filter(|entry| entry.id.starts_with(&prefix)).collect();
        plan.stale.sort_by(|a, b| (name(Some(a)), &a.id).cmp(&(name(Some(b)), &b.id)));
        Ok(plan)
    }

    fn compare(&mut self, from: &Entry, to: Entry) {
        let fields = differences(from, &to);
        if fields.is_empty() {
            self.unchanged += 1;
        } else {
            self.update.push(Change { to, fields });
        }
    }
}

/// The SPIFFE ID of an entry, as its name in messages.
pub(super) fn name(entry: Option<&Entry>) -> String {
    entry.map(|entry| values::id_text(entry.spiffe_id.as_ref())).unwrap_or_default()
}

fn identity(entry: &Entry) -> Identity {
    let mut selectors: Vec<_> =
        entry.selectors.iter().map(|selector| (selector.r#type.clone(), selector.value.clone())).collect();
    selectors.sort();
    (values::id_text(entry.spiffe_id.as_ref()), values::id_text(entry.parent_id.as_ref()), selectors)
}

/// The fields beside the identity that differ.
fn differences(from: &Entry, to: &Entry) -> Vec<(&'static str, String, String)> {
    fields(from)
        .into_iter()
        .zip(fields(to))
        .filter(|((_, old), (_, new))| old != new)
        .map(|((field, old), (_, new))| (field, old, new))
        .collect()
}

/// The fields that files set, as text that is equal when they are. The order of DNS names counts (the first is the
/// subject's name), that of trust domains does not.
pub(super) fn fields(entry: &Entry) -> Vec<(&'static str, String)> {
    let mut trust_domains: Vec<&str> =
        entry.federates_with.iter().map(|name| name.strip_prefix("spiffe://").unwrap_or(name)).collect();
    trust_domains.sort_unstable();
    let AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } =
        entry.additional_attributes.unwrap_or_default();
    vec![
        ("x509_svid_ttl", format!("{}s", entry.x509_svid_ttl)),
        ("jwt_svid_ttl", format!("{}s", entry.jwt_svid_ttl)),
        ("federates_with", trust_domains.join(", ")),
        ("dns_names", entry.dns_names.join(", ")),
        ("admin", entry.admin.to_string()),
        ("downstream", entry.downstream.to_string()),
        ("hint", entry.hint.clone()),
        ("expires_at", entry.expires_at.to_string()),
        ("store_svid", entry.store_svid.to_string()),
        ("disable_x509_svid_prefetch", disable_x509_svid_prefetch.to_string()),
        ("jwt_svid_include_jti", jwt_svid_include_jti.to_string()),
    ]
}
