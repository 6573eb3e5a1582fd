//! Agents as text, as SPIRE prints them. Times are in UTC.

use std::io::{self, Write};

use svidecar_api::spire::api::types::Agent;

use crate::cli::values;

/// What `purge` did about one agent.
pub(super) struct Purged {
    pub(super) id: String,
    pub(super) deleted: bool,
    pub(super) error: Option<String>,
}

pub(super) fn list(agents: &[Agent], out: &mut dyn Write) -> io::Result<()> {
    if agents.is_empty() {
        return writeln!(out, "No attested agents found");
    }
    writeln!(out, "Found {}:\n", values::count(agents.len(), "attested agent", "attested agents"))?;
    agents.iter().try_for_each(|agent| one(agent, out))
}

pub(super) fn show(agent: &Agent, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Found an attested agent given its SPIFFE ID\n")?;
    one(agent, out)?;
    for selector in &agent.selectors {
        writeln!(out, "Selectors         : {}:{}", selector.r#type, selector.value)?;
    }
    Ok(())
}

fn one(agent: &Agent, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "SPIFFE ID         : {}", values::id_text(agent.id.as_ref()))?;
    writeln!(out, "Attestation type  : {}", agent.attestation_type)?;
    writeln!(out, "Expiration time   : {}", values::time(agent.x509svid_expires_at))?;
    if agent.banned {
        writeln!(out, "Banned            : true")?;
    } else {
        writeln!(out, "Serial number     : {}", agent.x509svid_serial_number)?;
    }
    writeln!(out, "Can re-attest     : {}", agent.can_reattest)?;
    if !agent.agent_version.is_empty() {
        writeln!(out, "Agent version     : {}", agent.agent_version)?;
    }
    writeln!(out)
}

pub(super) fn purged(agents: &[Purged], dry_run: bool, out: &mut dyn Write) -> io::Result<()> {
    if agents.is_empty() {
        return writeln!(out, "No agents to purge.");
    }
    writeln!(out, "Found {}\n", values::count(agents.len(), "expired agent", "expired agents"))?;
    if dry_run {
        writeln!(out, "\nAgents that can be purged:")?;
        return agents.iter().try_for_each(|agent| writeln!(out, "SPIFFE ID         : {}", agent.id));
    }
    if agents.iter().any(|agent| agent.deleted) {
        writeln!(out, "Agents purged:")?;
    }
    for agent in agents.iter().filter(|agent| agent.deleted) {
        writeln!(out, "SPIFFE ID         : {}", agent.id)?;
    }
    if agents.iter().any(|agent| !agent.deleted) {
        writeln!(out, "Agents not purged:")?;
    }
    for agent in agents.iter().filter(|agent| !agent.deleted) {
        writeln!(out, "SPIFFE ID         : {}", agent.id)?;
        writeln!(out, "Error             : {}", agent.error.as_deref().unwrap_or_default())?;
    }
    Ok(())
}
