//! `bootstrap`: what a fresh stack needs of its server, as one command that may run again and again.
//!
//! Owns the join token's file and the order of steps. It works over SPIRE's own API, and must never leave the file
//! without a token that is worth trying: a stack whose agent lost its data comes up again by running this again.

use std::{
    future::Future,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use svidecar_api::{
    spire::api::{
        server::{
            agent::v1::{CreateJoinTokenRequest, GetAgentRequest, agent_client::AgentClient},
            entry::v1::{entry_client::EntryClient, list_entries_request},
        },
        types,
    },
    svidecar::server::v1::DeleteJoinTokenRequest,
};
use svidecar_config::HumanDuration;
use svidecar_process::{Console, clock};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::ids;

use super::{
    CliError, ServerSocket,
    entry::{apply, calls},
    files, values,
};

/// How often the server is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for an answer of a server that is ready. Many entries are many calls.
const ANSWER: Duration = Duration::from_secs(60);
/// Each try to reach the server gets this time at least, however little there is left to wait.
const ONE_TRY: Duration = Duration::from_secs(1);
/// Whose entries they are, unless somebody says otherwise.
const OWNER: &str = "bootstrap";
/// A token and its pin are far shorter.
const MAX_TOKEN_BYTES: usize = 255;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct BootstrapArgs {
    /// The SPIFFE ID that the agent gets beside its own: the parent of the entries
    #[arg(long, value_name = "ID")]
    agent_id: String,
    /// Where the join token is written, with mode 0600; the agent's `join_token_file`
    #[arg(long, value_name = "FILE")]
    join_token_file: PathBuf,
    /// How long the token may be used, in seconds or as a duration (10m)
    #[arg(long, default_value = "1h", value_parser = values::seconds)]
    ttl: i32,
    /// A file of entries, or a directory of them, as `entry apply` takes it (repeatable)
    #[arg(long, short, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Deletes the entries of earlier runs that are in no file any more
    #[arg(long)]
    prune: bool,
    /// How long to wait for the server
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    wait: HumanDuration,
    #[command(flatten)]
    server: ServerSocket,
}

const EXAMPLE: &str = "\
Example:
  svidecar-server bootstrap --agent-id spiffe://demo.org/node --join-token-file /run/join/token -f entries.yaml
  svidecar-agent run --join-token-file /run/join/token …

It may run at each start of a stack. Entries that are there stay as they are. The token is a new one each time: an
agent that has joined stays who it is, one that waits or lost its data joins with it, and the one before is deleted
unless an agent has joined by it.";

pub(super) async fn run(args: BootstrapArgs, console: &mut Console) -> Result<(), CliError> {
    let agent_id = values::spiffe_id(&args.agent_id)?;
    // Wrong files are told before anything is changed.
    let wanted = if args.file.is_empty() { Vec::new() } else { apply::read(&args.file, OWNER)? };
    wait_for_server(&args, console).await?;
    let mut entries = bounded(args.server.entries()).await?;
    token(&args, agent_id, &mut entries, console).await?;

    let plan = apply::Plan::new(wanted, bounded(calls::list(&mut entries, None)).await?, OWNER)?;
    tell(&plan, args.prune, console)?;
    let refused = bounded(apply::carry_out(&plan, args.prune, &mut entries)).await?;
    apply::outcome(&refused, console)?;
    say(console, "done")
}

/// Every line begins with who says it: it stands among those of other services.
fn say(console: &mut Console, what: &str) -> Result<(), CliError> {
    console.line(format!("[bootstrap] {what}"))?;
    Ok(console.flush()?)
}

async fn wait_for_server(args: &BootstrapArgs, console: &mut Console) -> Result<(), CliError> {
    let started = clock::timer();
    let mut told = false;
    loop {
        let left = args.wait.get().saturating_sub(clock::timer() - started).max(ONE_TRY);
        let problem = match timeout(left, healthy(&args.server)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => silent(left),
        };
        if clock::timer() - started >= args.wait.get() {
            return Err(problem);
        }
        if !told {
            say(console, &format!("waiting for the server at {}", args.server.path()?.display()))?;
            told = true;
        }
        sleep(ASK_EVERY).await;
    }
}

async fn healthy(server: &ServerSocket) -> Result<(), CliError> {
    let answer = server.health().await?.check(HealthCheckRequest::default()).await?.into_inner();
    if answer.status() == ServingStatus::Serving {
        return Ok(());
    }
    Err(CliError::message("the server is there, but not ready; its log says why"))
}

/// Puts a fresh token into the file, and clears away what an unused one left on the server.
async fn token(
    args: &BootstrapArgs,
    agent_id: types::Spiffeid,
    entries: &mut EntryClient<Channel>,
    console: &mut Console,
) -> Result<(), CliError> {
    let trust_domain = agent_id.trust_domain.clone();
    let before = earlier_token(&args.join_token_file, &trust_domain);
    let mut agents = bounded(args.server.agents()).await?;
    let mut joined = match &before {
        None => false,
        Some(before) => has_joined(&mut agents, &before.agent).await?,
    };
    let request =
        CreateJoinTokenRequest { ttl: args.ttl, token: String::new(), agent_id: Some(agent_id.clone()) };
    let token = answered(agents.create_join_token(request)).await?.into_inner();
    files::write(&args.join_token_file, 0o600, token.value.as_bytes())?;
    let file = args.join_token_file.display();
    let name = values::id_text(Some(&agent_id));
    // An agent that waits for the server may use the token of before until it is deleted, and is not without a name then.
    if let Some(before) = before.as_ref().filter(|_| !joined)
        && delete_token(args, before).await?
    {
        joined = has_joined(&mut agents, &before.agent).await?;
        if !joined {
            forget_alias(&before.agent, &agent_id, entries).await?;
        }
    }
    match before {
        Some(before) if joined => {
            let id = values::id_text(Some(&before.agent));
            say(
                console,
                &format!(
                    "{id} has joined as {name}; a new join token is in {file} in case it loses its data"
                ),
            )
        }
        _ => say(console, &format!("creating join token for {name} in {file}")),
    }
}

async fn has_joined(agents: &mut AgentClient<Channel>, agent: &types::Spiffeid) -> Result<bool, CliError> {
    let request = GetAgentRequest { id: Some(agent.clone()), output_mask: None };
    match answered(agents.get_agent(request)).await {
        Ok(_) => Ok(true),
        Err(CliError::Rpc(status)) if status.code() == Code::NotFound => Ok(false),
        Err(CliError::Rpc(status)) => {
            Err(CliError::While { doing: "error fetching agent".to_owned(), status })
        }
        Err(error) => Err(error),
    }
}

/// Deletes a token, so that nobody joins by it from now on. False where the server cannot.
async fn delete_token(args: &BootstrapArgs, token: &Earlier) -> Result<bool, CliError> {
    let mut tokens = bounded(args.server.tokens()).await?;
    match answered(tokens.delete_join_token(DeleteJoinTokenRequest { id: token.id.clone() })).await {
        Ok(_) => Ok(true),
        Err(CliError::Rpc(status)) if status.code() == Code::NotFound => Ok(true),
        // SPIRE has no such call.
        Err(CliError::Rpc(status)) if status.code() == Code::Unimplemented => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is left of an earlier run.
struct Earlier {
    /// What names the token.
    id: String,
    /// The agent that it would make.
    agent: types::Spiffeid,
}

/// The token in the file. None where there is no file, or none of ours.
fn earlier_token(file: &Path, trust_domain: &str) -> Option<Earlier> {
    let text = match files::read_text(file) {
        Ok(text) => text,
        Err(CliError::File { error, .. }) if error.kind() == ErrorKind::NotFound => return None,
        // What cannot be read cannot be cleared away; writing it says what is wrong with the file.
        Err(_) => return None,
    };
    let token = text.trim().split('.').next().unwrap_or_default();
    let fits = !token.is_empty()
        && token.len() <= MAX_TOKEN_BYTES
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then(|| Earlier {
        id: ids::token_digest(token),
        agent: types::Spiffeid {
            trust_domain: trust_domain.to_owned(),
            path: format!("/spire/agent/join_token/{token}"),
        },
    })
}

/// The entry that would have named the agent of a token that nobody used.
async fn forget_alias(
    agent: &types::Spiffeid,
    name: &types::Spiffeid,
    entries: &mut EntryClient<Channel>,
) -> Result<(), CliError> {
    let filter = list_entries_request::Filter {
        by_parent_id: Some(agent.clone()),
        by_spiffe_id: Some(name.clone()),
        ..list_entries_request::Filter::default()
    };
    let selectors = [types::Selector { r#type: "spiffe_id".to_owned(), value: values::id_text(Some(agent)) }];
    let aliases = bounded(calls::list(entries, Some(filter))).await?;
    let aliases = aliases.into_iter().filter(|entry| entry.selectors == selectors);
    bounded(calls::delete(entries, aliases.map(|entry| entry.id).collect())).await?;
    Ok(())
}

/// A call, with an end to the wait for its answer.
async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, CliError> {
    bounded(async { call.await.map_err(CliError::from) }).await
}

async fn bounded<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    timeout(ANSWER, work).await.unwrap_or_else(|_| Err(silent(ANSWER)))
}

fn silent(after: Duration) -> CliError {
    let seconds = after.as_secs();
    CliError::message(format!(
        "the server takes calls, and did not answer within {seconds} s; its log says why"
    ))
}

fn tell(plan: &apply::Plan, prune: bool, console: &mut Console) -> Result<(), CliError> {
    for entry in &plan.create {
        say(console, &format!("creating entry for {}", described(entry)))?;
    }
    for change in &plan.update {
        say(console, &format!("updating entry for {}", described(&change.to)))?;
    }
    for entry in plan.stale.iter().filter(|_| prune) {
        say(console, &format!("deleting entry for {}", described(entry)))?;
    }
    if plan.unchanged > 0 {
        let entries = values::count(plan.unchanged, "entry", "entries");
        let verb = if plan.unchanged == 1 { "is" } else { "are" };
        say(console, &format!("{entries} {verb} there already"))?;
    }
    Ok(())
}

/// `spiffe://demo.org/shop (unix:uid:1001)`
fn described(entry: &types::Entry) -> String {
    let selectors: Vec<_> =
        entry.selectors.iter().map(|selector| format!("{}:{}", selector.r#type, selector.value)).collect();
    format!("{} ({})", values::id_text(entry.spiffe_id.as_ref()), selectors.join(", "))
}
