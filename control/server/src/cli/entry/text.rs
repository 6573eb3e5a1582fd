//! Entries as text, as SPIRE prints them.

use std::io::{self, Write};

use svidecar_api::spire::api::{
    server::entry::v1::{
        batch_create_entry_response, batch_delete_entry_response, batch_update_entry_response,
    },
    types::{Entry, Status},
};
use svidecar_process::Console;

use super::calls::failed;
use crate::cli::{
    CliError,
    error::code_name,
    values::{self, id_text},
};

pub(super) fn list(entries: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Found {}", values::count(entries.len(), "entry", "entries"))?;
    entries.iter().try_for_each(|entry| one(entry, out))
}

pub(super) fn one(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    let ttl = |seconds: i32| if seconds == 0 { "default".to_owned() } else { seconds.to_string() };
    let id = if entry.id.is_empty() { "(none)" } else { &entry.id };
    writeln!(out, "Entry ID                : {id}")?;
    writeln!(out, "SPIFFE ID               : {}", id_text(entry.spiffe_id.as_ref()))?;
    writeln!(out, "Parent ID               : {}", id_text(entry.parent_id.as_ref()))?;
    writeln!(out, "Revision                : {}", entry.revision_number)?;
    if entry.downstream {
        writeln!(out, "Downstream              : true")?;
    }
    writeln!(out, "X509-SVID TTL           : {}", ttl(entry.x509_svid_ttl))?;
    writeln!(out, "JWT-SVID TTL            : {}", ttl(entry.jwt_svid_ttl))?;
    if entry.expires_at != 0 {
        writeln!(out, "Expiration time         : {}", values::time(entry.expires_at))?;
    }
    for selector in &entry.selectors {
        writeln!(out, "Selector                : {}:{}", selector.r#type, selector.value)?;
    }
    for trust_domain in &entry.federates_with {
        writeln!(out, "FederatesWith           : {trust_domain}")?;
    }
    for name in &entry.dns_names {
        writeln!(out, "DNS name                : {name}")?;
    }
    if entry.admin {
        writeln!(out, "Admin                   : true")?;
    }
    if entry.store_svid {
        writeln!(out, "StoreSvid               : true")?;
    }
    if !entry.hint.is_empty() {
        writeln!(out, "Hint                    : {}", entry.hint)?;
    }
    let attributes = entry.additional_attributes.unwrap_or_default();
    if attributes.disable_x509_svid_prefetch {
        writeln!(out, "DisableX509SvidPrefetch : true")?;
    }
    if attributes.jwt_svid_include_jti {
        writeln!(out, "JwtSvidIncludeJti       : true")?;
    }
    writeln!(out)
}

pub(super) fn created(
    results: &[batch_create_entry_response::Result],
    console: &mut Console,
) -> Result<(), CliError> {
    let results: Vec<_> =
        results.iter().map(|result| (result.status.as_ref(), result.entry.as_ref())).collect();
    changed("create", &results, console)
}

pub(super) fn updated(
    results: &[batch_update_entry_response::Result],
    console: &mut Console,
) -> Result<(), CliError> {
    let results: Vec<_> =
        results.iter().map(|result| (result.status.as_ref(), result.entry.as_ref())).collect();
    changed("update", &results, console)
}

/// First what was done, to stdout, then what was not, to stderr.
fn changed(
    verb: &str,
    results: &[(Option<&Status>, Option<&Entry>)],
    console: &mut Console,
) -> Result<(), CliError> {
    let nothing = Entry::default();
    let mut failures = 0;
    for (status, entry) in results {
        if failed(*status).is_none() {
            one(entry.unwrap_or(&nothing), console.out())?;
        }
    }
    for (status, entry) in results {
        if let Some(status) = failed(*status) {
            failures += 1;
            writeln!(console.err(), "Failed to {verb} the following entry ({}):", reason(status))?;
            one(entry.unwrap_or(&nothing), console.err())?;
        }
    }
    if failures > 0 {
        return Err(CliError::Message(format!("failed to {verb} one or more entries")));
    }
    Ok(())
}

/// What SPIRE prints, to the last character: the text ends without a new line.
pub(super) fn deleted(
    results: &[batch_delete_entry_response::Result],
    console: &mut Console,
) -> Result<(), CliError> {
    let failures: Vec<_> =
        results.iter().filter_map(|result| Some((result, failed(result.status.as_ref())?))).collect();
    let successes = results.len() - failures.len();
    for result in results.iter().filter(|result| failed(result.status.as_ref()).is_none()) {
        writeln!(console.out(), "Deleted entry with ID: {}", result.id)?;
    }
    if successes > 0 {
        write!(console.out(), "\n\n")?;
    }
    for (result, status) in &failures {
        writeln!(console.err(), "Failed to delete entry with ID {} ({})", result.id, reason(status))?;
    }
    if failures.is_empty() {
        return Ok(write!(console.out(), "Deleted {successes} entries successfully")?);
    }
    write!(console.out(), "\n\n")?;
    let count = failures.len();
    if successes == 0 {
        write!(console.out(), "Failed to delete {count} entries")?;
    } else {
        write!(
            console.out(),
            "Deleted {successes} entries successfully, but failed to delete {count} entries"
        )?;
    }
    Err(CliError::message("failed to delete one or more entries"))
}

/// `code: AlreadyExists, msg: "…"`.
pub(super) fn reason(status: &Status) -> String {
    format!("code: {}, msg: {:?}", code_name(tonic::Code::from(status.code)), status.message)
}
