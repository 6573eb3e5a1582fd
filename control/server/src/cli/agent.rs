//! `agent list|show|count|ban|evict|purge`.

mod text;

use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;
use svidecar_api::spire::api::{
    server::agent::v1::{
        BanAgentRequest, CountAgentsRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
        ListAgentsResponse, count_agents_request, list_agents_request,
    },
    types::SelectorMatch,
};
use svidecar_config::HumanDuration;
use svidecar_process::{
    clock,
    console::{Console, Format, OutputArgs},
};

use self::text::Purged;
use super::{
    CliError, ServerSocket, output,
    values::{self, MatchMode},
};

/// Agents per page of a listing.
const PAGE: i32 = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Lists attested agents
    List(FilterArgs),
    /// Counts attested agents
    Count(FilterArgs),
    /// Shows an attested agent and its selectors
    Show(IdArgs),
    /// Bans an agent: its SVID is refused from now on, it does not come back, and nobody joins by its token again
    ///
    /// Its join token, also one that is reusable, all certificates of its keys and the entries below it end with it. It stays in the list as banned until it is
    /// evicted. For its machine to come back, generate another token.
    Ban(IdArgs),
    /// Deletes an agent: its SVID is refused from now on, and it neither comes back nor joins by its token again
    ///
    /// Its join token, all certificates of its keys and the entries below it end with it. Of a reusable token only the key of the agent is refused: its
    /// machine joins again when it starts anew with another key, as the same agent and with the same entries. Where somebody
    /// else may have that token, use `agent ban`.
    Evict(IdArgs),
    /// Deletes agents that expired long ago and may attest again
    Purge(PurgeArgs),
}

#[derive(Args, Debug)]
pub(super) struct FilterArgs {
    /// Only agents with this selector, type:value (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    selector: Vec<String>,
    /// How the selectors are compared
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    match_selectors_on: MatchMode,
    /// Only agents that attested in this way, such as join_token
    #[arg(long, value_name = "TYPE")]
    attestation_type: Option<String>,
    /// Only agents that can (true) or cannot (false) attest again
    #[arg(long, value_name = "true|false")]
    can_reattest: Option<String>,
    /// Only agents that are (true) or are not (false) banned
    #[arg(long, value_name = "true|false")]
    banned: Option<String>,
    /// Only agents whose SVID ends before this time (2006-01-02 15:04:05 -0700 -07)
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct IdArgs {
    /// The agent's SPIFFE ID
    #[arg(long, value_name = "ID")]
    spiffe_id: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct PurgeArgs {
    /// How long ago the agent's SVID must have ended
    #[arg(long, default_value = "720h", value_name = "DURATION")]
    expired_for: HumanDuration,
    /// Only says which agents would be deleted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn run(command: AgentCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        AgentCommand::List(args) => {
            let response = list(&args.server, args.filter()?).await?;
            output::print(console, args.output, &response, |response, console| {
                Ok(text::list(&response.agents, console.out())?)
            })
        }
        AgentCommand::Count(args) => {
            let filter = args.filter()?;
            let filter = count_agents_request::Filter {
                by_attestation_type: filter.by_attestation_type,
                by_selector_match: filter.by_selector_match,
                by_banned: filter.by_banned,
                by_can_reattest: filter.by_can_reattest,
                by_expires_before: filter.by_expires_before,
            };
            let request = CountAgentsRequest { filter: Some(filter) };
            let response = args.server.agents().await?.count_agents(request).await?.into_inner();
            output::print(console, args.output, &response, |response, console| {
                let number = usize::try_from(response.count).unwrap_or_default();
                let counted = values::count(number, "attested agent", "attested agents");
                Ok(writeln!(console.out(), "{counted}")?)
            })
        }
        AgentCommand::Show(args) => {
            let request =
                GetAgentRequest { id: Some(values::spiffe_id(&args.spiffe_id)?), output_mask: None };
            let agent = args.server.agents().await?.get_agent(request).await?.into_inner();
            output::print(console, args.output, &agent, |agent, console| {
                Ok(text::show(agent, console.out())?)
            })
        }
        AgentCommand::Ban(args) => {
            let request = BanAgentRequest { id: Some(values::spiffe_id(&args.spiffe_id)?) };
            args.server.agents().await?.ban_agent(request).await?;
            output::print(console, args.output, &(), |(), console| {
                Ok(writeln!(console.out(), "Agent banned successfully")?)
            })
        }
        AgentCommand::Evict(args) => {
            let request = DeleteAgentRequest { id: Some(values::spiffe_id(&args.spiffe_id)?) };
            args.server.agents().await?.delete_agent(request).await?;
            output::print(console, args.output, &(), |(), console| {
                Ok(writeln!(console.out(), "Agent evicted successfully")?)
            })
        }
        AgentCommand::Purge(args) => purge(args, console).await,
    }
}

impl FilterArgs {
    fn filter(&self) -> Result<list_agents_request::Filter, CliError> {
        if let Some(time) = &self.expires_before {
            check_time(time)?;
        }
        let selectors = values::selectors(&self.selector)?;
        let by_selector_match: Option<SelectorMatch> =
            (!selectors.is_empty()).then(|| self.match_selectors_on.of_selectors(selectors));
        Ok(list_agents_request::Filter {
            by_attestation_type: self.attestation_type.clone().unwrap_or_default(),
            by_selector_match,
            by_banned: three_states(self.banned.as_deref()),
            by_can_reattest: three_states(self.can_reattest.as_deref()),
            by_expires_before: self.expires_before.clone().unwrap_or_default(),
        })
    }
}

/// SPIRE takes every other word for "all".
fn three_states(text: Option<&str>) -> Option<bool> {
    text.and_then(|text| text.parse().ok())
}

/// SPIRE's format, `2006-01-02 15:04:05 -0700 -07`.
fn check_time(text: &str) -> Result<(), CliError> {
    let invalid = |why: String| CliError::Message(format!("date is not valid: {why}"));
    let (time, zone) = text.rsplit_once(' ').ok_or_else(|| invalid(format!("`{text}` has no time zone")))?;
    if zone.len() != 3 || !zone.starts_with(['+', '-']) {
        return Err(invalid(format!("`{text}` does not end in hours of the time zone, such as -07")));
    }
    jiff::fmt::strtime::parse("%Y-%m-%d %H:%M:%S %z", time)
        .and_then(|time| time.to_timestamp())
        .map_err(|error| invalid(error.to_string()))?;
    Ok(())
}

/// All pages as one.
async fn list(
    server: &ServerSocket,
    filter: list_agents_request::Filter,
) -> Result<ListAgentsResponse, CliError> {
    let mut client = server.agents().await?;
    let mut all = ListAgentsResponse::default();
    let mut page_token = String::new();
    loop {
        let request = ListAgentsRequest {
            filter: Some(filter.clone()),
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let page = client.list_agents(request).await?.into_inner();
        all.agents.extend(page.agents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

async fn purge(args: PurgeArgs, console: &mut Console) -> Result<(), CliError> {
    let filter = list_agents_request::Filter { by_can_reattest: Some(true), ..Default::default() };
    let agents = list(&args.server, filter).await.map_err(|error| match error {
        CliError::Rpc(status) => CliError::While { doing: "failed to list agents".to_owned(), status },
        error => error,
    })?;
    let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let limit = i64::try_from(now.saturating_sub(args.expired_for.get()).as_secs()).unwrap_or_default();
    if !args.dry_run {
        super::clock::check(&args.server).await?;
    }
    let mut client = args.server.agents().await?;
    let mut purged = Vec::new();
    for agent in agents.agents.into_iter().filter(|agent| agent.x509svid_expires_at < limit) {
        let mut result = Purged { id: values::id_text(agent.id.as_ref()), deleted: false, error: None };
        if !args.dry_run {
            match client.delete_agent(DeleteAgentRequest { id: agent.id }).await {
                Ok(_) => result.deleted = true,
                Err(status) => result.error = Some(CliError::Rpc(status).to_string()),
            }
        }
        purged.push(result);
    }
    match args.output.output {
        Format::Pretty => Ok(text::purged(&purged, args.dry_run, console.out())?),
        Format::Json => {
            let list: Vec<_> = purged
                .iter()
                .map(|agent| match &agent.error {
                    None => json!({"agent_id": agent.id, "deleted": agent.deleted}),
                    Some(error) => json!({"agent_id": agent.id, "deleted": agent.deleted, "error": error}),
                })
                .collect();
            Ok(console.json(&json!({ "expired_agents": list }))?)
        }
    }
}

#[cfg(test)]
mod tests;
