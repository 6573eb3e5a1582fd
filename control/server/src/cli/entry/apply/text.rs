//! A plan as a diff for people.

use svidecar_api::spire::api::types::Entry;
use svidecar_process::console::{Colour, Console};

use super::{
    carry_out::Refused,
    plan::{self, Plan},
};
use crate::cli::{CliError, values::id_text};

/// Prints what is done: `+` created, `~` changed, `-` deleted, and the sum.
pub(super) fn plan(plan: &Plan, prune: bool, console: &mut Console) -> Result<(), CliError> {
    for entry in &plan.create {
        let head = console.paint(Colour::Green, &format!("+ {}", plan::name(Some(entry))));
        writeln!(console.out(), "{head}  {}", entry.id)?;
        write_identity(entry, console)?;
        let defaults = plan::fields(&Entry::default());
        for ((field, value), (_, default)) in plan::fields(entry).into_iter().zip(defaults) {
            if value != default {
                writeln!(console.out(), "    {field}: {value}")?;
            }
        }
    }
    for change in &plan.update {
        let head = console.paint(Colour::Yellow, &format!("~ {}", plan::name(Some(&change.to))));
        writeln!(console.out(), "{head}  {}", change.to.id)?;
        for (field, old, new) in &change.fields {
            let (old, new) = (or_nothing(old), or_nothing(new));
            writeln!(console.out(), "    {field}: {old} -> {new}")?;
        }
    }
    if prune {
        for entry in &plan.stale {
            let head = console.paint(Colour::Red, &format!("- {}", plan::name(Some(entry))));
            writeln!(console.out(), "{head}  {}", entry.id)?;
            write_identity(entry, console)?;
        }
    }
    let deleted = if prune { plan.stale.len() } else { 0 };
    writeln!(
        console.out(),
        "{} to create, {} to change, {deleted} to delete, {} unchanged",
        plan.create.len(),
        plan.update.len(),
        plan.unchanged
    )?;
    if !prune && !plan.stale.is_empty() {
        writeln!(console.out(), "{} in no file any more; --prune deletes them", plan.stale.len())?;
    }
    Ok(())
}

fn write_identity(entry: &Entry, console: &mut Console) -> Result<(), CliError> {
    writeln!(console.out(), "    parent_id: {}", id_text(entry.parent_id.as_ref()))?;
    for selector in &entry.selectors {
        writeln!(console.out(), "    selector: {}:{}", selector.r#type, selector.value)?;
    }
    Ok(())
}

fn or_nothing(value: &str) -> &str {
    if value.is_empty() { "(none)" } else { value }
}

/// Prints what the server refused, to stderr.
pub(super) fn refused(refused: &[Refused], console: &mut Console) -> Result<(), CliError> {
    for Refused { doing, what, reason } in refused {
        writeln!(console.err(), "Failed to {doing} {what} ({reason})")?;
    }
    Ok(())
}
