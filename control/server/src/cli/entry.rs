//! `entry create|show|update|delete|count|apply`.

pub(super) mod apply;
pub(super) mod calls;
mod data;
mod fields;
mod text;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use svidecar_api::spire::api::{
    server::entry::v1::{
        CountEntriesRequest, GetEntryRequest, ListEntriesResponse, count_entries_request,
        list_entries_request,
    },
    types::Entry,
};
use svidecar_process::console::{Console, OutputArgs};

use self::fields::{CreateArgs, UpdateArgs};
use super::{
    CliError, ServerSocket, output,
    values::{self, MatchMode},
};

#[derive(Debug, Subcommand)]
pub(super) enum EntryCommand {
    /// Creates entries
    Create(CreateArgs),
    /// Replaces an entry; what is not given gets its default
    Update(UpdateArgs),
    /// Shows the entries that pass a filter
    Show(ShowArgs),
    /// Counts the entries that pass a filter
    Count(CountArgs),
    /// Deletes entries
    Delete(DeleteArgs),
    /// Makes the server's entries what files say they should be
    Apply(apply::ApplyArgs),
}

#[derive(Args, Debug)]
pub(super) struct FilterArgs {
    /// Only entries directly below this parent
    #[arg(long, value_name = "ID")]
    parent_id: Option<String>,
    /// Only entries that give this SPIFFE ID
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,
    /// Only entries for a downstream server; without it, only the others
    #[arg(long)]
    downstream: bool,
    /// Only entries with this selector, type:value (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    selector: Vec<String>,
    /// How the selectors are compared
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    match_selectors_on: MatchMode,
    /// Only entries that federate with this trust domain (repeatable)
    #[arg(long, value_name = "TRUST_DOMAIN")]
    federates_with: Vec<String>,
    /// How the trust domains are compared
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    match_federates_with_on: MatchMode,
    /// Only entries with this hint
    #[arg(long)]
    hint: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// The one entry with this ID
    #[arg(long, value_name = "ID")]
    entry_id: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct CountArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// The entry to delete
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    entry_id: Option<String>,
    /// A file with the entries to delete, {"ids": ["…"]}; `-` is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn run(command: EntryCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        EntryCommand::Create(args) => {
            let mut client = args.server().entries().await?;
            let response = calls::create(&mut client, args.entries()?).await?;
            output::print(console, args.output(), &response, |response, console| {
                text::created(&response.results, console)
            })
        }
        EntryCommand::Update(args) => {
            let mut client = args.server().entries().await?;
            let entries = args.entries(&mut client).await?;
            let response = calls::update(&mut client, entries).await?;
            output::print(console, args.output(), &response, |response, console| {
                text::updated(&response.results, console)
            })
        }
        EntryCommand::Show(args) => {
            let response = show(&args).await?;
            output::print(console, args.output, &response, |response, console| {
                Ok(text::list(&response.entries, console.out())?)
            })
        }
        EntryCommand::Count(args) => {
            let filter = args.filter.filter()?;
            let filter = count_entries_request::Filter {
                by_spiffe_id: filter.by_spiffe_id,
                by_parent_id: filter.by_parent_id,
                by_selectors: filter.by_selectors,
                by_federates_with: filter.by_federates_with,
                by_hint: filter.by_hint,
                by_downstream: filter.by_downstream,
            };
            let request = CountEntriesRequest { filter: Some(filter) };
            let response = args.server.entries().await?.count_entries(request).await?.into_inner();
            output::print(console, args.output, &response, |response, console| {
                let number = usize::try_from(response.count).unwrap_or_default();
                let counted = values::count(number, "registration entry", "registration entries");
                Ok(writeln!(console.out(), "{counted}")?)
            })
        }
        EntryCommand::Delete(args) => {
            let ids = match (&args.file, &args.entry_id) {
                (Some(file), _) => data::ids(file)?,
                (None, Some(id)) => vec![id.clone()],
                (None, None) => return Err(CliError::message("an entry ID is required")),
            };
            let response = calls::delete(&mut args.server.entries().await?, ids).await?;
            output::print(console, args.output, &response, |response, console| {
                text::deleted(&response.results, console)
            })
        }
        EntryCommand::Apply(args) => apply::run(args, console).await,
    }
}

impl FilterArgs {
    fn filter(&self) -> Result<list_entries_request::Filter, CliError> {
        let selectors = values::selectors(&self.selector)?;
        let trust_domains = self.federates_with.clone();
        Ok(list_entries_request::Filter {
            by_spiffe_id: self.spiffe_id.as_deref().map(values::spiffe_id).transpose()?,
            by_parent_id: self.parent_id.as_deref().map(values::spiffe_id).transpose()?,
            by_selectors: (!selectors.is_empty()).then(|| self.match_selectors_on.of_selectors(selectors)),
            by_federates_with: (!trust_domains.is_empty())
                .then(|| self.match_federates_with_on.of_trust_domains(trust_domains)),
            by_hint: self.hint.clone().filter(|hint| !hint.is_empty()),
            by_downstream: Some(self.downstream),
        })
    }
}

async fn show(args: &ShowArgs) -> Result<ListEntriesResponse, CliError> {
    let mut client = args.server.entries().await?;
    let mut response = ListEntriesResponse::default();
    if let Some(id) = &args.entry_id {
        let filter = &args.filter;
        if filter.parent_id.is_some() || filter.spiffe_id.is_some() || !filter.selector.is_empty() {
            return Err(CliError::message("the -entryID flag can't be combined with others"));
        }
        let request = GetEntryRequest { id: id.clone(), output_mask: None };
        let answer = client.get_entry(request).await;
        response
            .entries
            .push(answer.map_err(CliError::doing(format!("error fetching entry ID {id}")))?.into_inner());
    } else {
        response.entries = calls::list(&mut client, Some(args.filter.filter()?)).await?;
    }
    sort(&mut response.entries);
    Ok(response)
}

/// SPIRE's order: by SPIFFE ID, parent ID, TTLs and selectors, with the selectors of each entry in order.
fn sort(entries: &mut [Entry]) {
    type Key<'a> =
        (Option<(&'a str, &'a str)>, Option<(&'a str, &'a str)>, i32, i32, Vec<(&'a str, &'a str)>);
    fn key(entry: &Entry) -> Key<'_> {
        (
            entry.spiffe_id.as_ref().map(|id| (id.trust_domain.as_str(), id.path.as_str())),
            entry.parent_id.as_ref().map(|id| (id.trust_domain.as_str(), id.path.as_str())),
            entry.x509_svid_ttl,
            entry.jwt_svid_ttl,
            entry.selectors.iter().map(|s| (s.r#type.as_str(), s.value.as_str())).collect(),
        )
    }
    for entry in entries.iter_mut() {
        entry.selectors.sort_by(|a, b| (&a.r#type, &a.value).cmp(&(&b.r#type, &b.value)));
    }
    entries.sort_by(|a, b| key(a).cmp(&key(b)));
}

#[cfg(test)]
mod tests;
