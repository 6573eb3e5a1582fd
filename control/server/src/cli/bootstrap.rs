//! `bootstrap`: what a fresh stack needs of its server, as one command that may run again and again.
//!
//! Owns the join token's file and the order of steps. It works over SPIRE's own API, and must never leave the file
//! without a token that is worth trying: a stack whose agent lost its data comes up again by running this again.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use svidecar_api::spire::api::{
    server::{
        agent::v1::{CreateJoinTokenRequest, GetAgentRequest},
        entry::v1::{entry_client::EntryClient, list_entries_request},
    },
    types,
};
use svidecar_config::HumanDuration;
use tokio::time::{Instant, sleep};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::{CliError, Console, ServerSocket, apply, entry, files, values};

/// How often the server is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_millis(200);
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
agent that has joined does not look at it, and one that lost its data joins with it.";

pub(super) async fn run(args: BootstrapArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    let agent_id = values::spiffe_id(&args.agent_id)?;
    // Wrong files are told before anything is changed.
    let wanted = if args.file.is_empty() { Vec::new() } else { apply::read(&args.file, OWNER)? };
    wait_for_server(&args, console).await?;
    let mut entries = args.server.entries().await?;
    token(&args, agent_id, &mut entries, console).await?;

    let plan = apply::Plan::new(wanted, entry::list(&mut entries, None).await?, OWNER)?;
    tell(&plan, args.prune, console)?;
    let refused = apply::carry_out(&plan, args.prune, &mut entries).await?;
    apply::outcome(&refused, console)?;
    say(console, "done")
}

/// Every line begins with who says it: it stands among those of other services.
fn say(console: &mut Console<'_>, what: &str) -> Result<(), CliError> {
    writeln!(console.out(), "[bootstrap] {what}")?;
    console.flush()
}

async fn wait_for_server(args: &BootstrapArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let problem = match healthy(&args.server).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if started.elapsed() >= args.wait.get() {
            return Err(problem);
        }
        if !told {
            say(console, &format!("waiting for the server at {}", args.server.path()?))?;
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
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let trust_domain = agent_id.trust_domain.clone();
    let before = earlier_token(&args.join_token_file, &trust_domain);
    let mut agents = args.server.agents().await?;
    let joined = match &before {
        None => false,
        Some(id) => match agents.get_agent(GetAgentRequest { id: Some(id.clone()), output_mask: None }).await
        {
            Ok(_) => true,
            Err(status) if status.code() == Code::NotFound => false,
            Err(status) => return Err(CliError::While { doing: "error fetching agent".to_owned(), status }),
        },
    };
    let request =
        CreateJoinTokenRequest { ttl: args.ttl, token: String::new(), agent_id: Some(agent_id.clone()) };
    let token = agents.create_join_token(request).await?.into_inner();
    files::write(&args.join_token_file, 0o600, token.value.as_bytes())?;
    let file = args.join_token_file.display();
    let name = values::id_text(Some(&agent_id));
    match before {
        Some(id) if joined => {
            let id = values::id_text(Some(&id));
            say(
                console,
                &format!(
                    "{id} has joined as {name}; a new join token is in {file} in case it loses its data"
                ),
            )
        }
        unused => {
            if let Some(id) = unused {
                forget_alias(id, entries).await?;
            }
            say(console, &format!("creating join token for {name} in {file}"))
        }
    }
}

/// The agent that the token in the file would make. None where there is no file, or none of ours.
fn earlier_token(file: &Path, trust_domain: &str) -> Option<types::Spiffeid> {
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
    fits.then(|| types::Spiffeid {
        trust_domain: trust_domain.to_owned(),
        path: format!("/spire/agent/join_token/{token}"),
    })
}

/// The entry that would have named the agent of a token that nobody used.
async fn forget_alias(agent: types::Spiffeid, entries: &mut EntryClient<Channel>) -> Result<(), CliError> {
    let filter =
        list_entries_request::Filter { by_parent_id: Some(agent), ..list_entries_request::Filter::default() };
    let aliases = entry::list(entries, Some(filter)).await?;
    entry::delete(entries, aliases.into_iter().map(|entry| entry.id).collect()).await?;
    Ok(())
}

fn tell(plan: &apply::Plan, prune: bool, console: &mut Console<'_>) -> Result<(), CliError> {
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
