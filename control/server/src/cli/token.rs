//! `token generate|list|delete`.

use clap::{Args, Subcommand};
use svidecar_api::{
    spire::api::{server::agent::v1::CreateJoinTokenRequest, types::JoinToken},
    svidecar::server::v1 as own,
};
use svidecar_process::console::{Console, OutputArgs};

use super::{CliError, ServerSocket, output, values};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Generates a join token
    ///
    /// It joins one agent: the first that uses it. `svidecar-agent run --join-token TOKEN` does.
    Generate(GenerateArgs),
    /// Lists the join tokens and who used them last; no secret is shown
    List(ListArgs),
    /// Deletes a join token; an agent that joined by it stays until `agent evict`
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub(super) struct GenerateArgs {
    /// How long it may be used, in seconds or as a duration (10m)
    #[arg(long, default_value = "600", value_parser = values::seconds, allow_negative_numbers = true)]
    ttl: i32,
    /// A SPIFFE ID for the agent, which can be the parent of entries
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,
    /// Lets another key use it too: for a machine that keeps no data, whose agent begins anew at each start
    ///
    /// Whoever has the token can be that agent, with all its workloads' identities, until the token ends: keep it as a
    /// secret of that one machine, and give each machine its own. The latest that uses it takes the place of the one
    /// before, whose SVID is refused from then on; the server's log says so, with key, address and time. To end it:
    /// `token delete`, then `agent evict`. Needs svidecar-server: SPIRE has no such tokens.
    #[arg(long)]
    reusable: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// The token's ID, as `token list` shows it
    #[arg(long, value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn run(command: TokenCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        TokenCommand::Generate(args) => generate(args, console).await,
        TokenCommand::List(args) => {
            let request = own::ListJoinTokensRequest {};
            let found = args.server.tokens().await?.list_join_tokens(request).await?.into_inner();
            output::print(console, args.output, &found, |found, console| print_list(&found.tokens, console))
        }
        TokenCommand::Delete(args) => {
            let request = own::DeleteJoinTokenRequest { id: args.id };
            let deleted = args.server.tokens().await?.delete_join_token(request).await?.into_inner();
            output::print(console, args.output, &deleted, |_, console| {
                Ok(writeln!(console.out(), "Join token deleted; an agent that joined by it is still there.")?)
            })
        }
    }
}

async fn generate(args: GenerateArgs, console: &mut Console) -> Result<(), CliError> {
    let agent_id =
        args.spiffe_id.as_deref().filter(|id| !id.is_empty()).map(values::spiffe_id).transpose()?;
    let named = agent_id.is_some();
    if args.reusable {
        let request = own::CreateJoinTokenRequest { ttl: args.ttl, agent_id, reusable: true };
        let token = args.server.tokens().await?.create_join_token(request).await?.into_inner();
        return output::print(console, args.output, &token, |token, console| {
            print_reusable(token, named, console)
        });
    }
    let request = CreateJoinTokenRequest { ttl: args.ttl, token: String::new(), agent_id };
    let token = args.server.agents().await?.create_join_token(request).await?.into_inner();
    output::print(console, args.output, &token, |token, console| print_token(token, named, console))
}

fn print_token(token: &JoinToken, named: bool, console: &mut Console) -> Result<(), CliError> {
    writeln!(console.out(), "Token: {}", token.value)?;
    if !named {
        writeln!(console.out(), "Warning: Missing SPIFFE ID.")?;
    }
    Ok(())
}

fn print_reusable(
    token: &own::CreateJoinTokenResponse,
    named: bool,
    console: &mut Console,
) -> Result<(), CliError> {
    print_token(&JoinToken { value: token.value.clone(), expires_at: token.expires_at }, named, console)?;
    let (agent, end) = (values::id_text(token.agent_id.as_ref()), values::time(token.expires_at));
    writeln!(
        console.err(),
        "Whoever has it can be {agent} until {end}; `token delete -id {}` ends it.",
        token.id
    )?;
    Ok(())
}

fn print_list(tokens: &[own::JoinToken], console: &mut Console) -> Result<(), CliError> {
    let out = console.out();
    if tokens.is_empty() {
        return Ok(writeln!(out, "No join tokens found")?);
    }
    writeln!(out, "Found {}:\n", values::count(tokens.len(), "join token", "join tokens"))?;
    for token in tokens {
        writeln!(out, "Token ID          : {}", token.id)?;
        writeln!(out, "Expiration time   : {}", values::time(token.expires_at))?;
        writeln!(out, "Reusable          : {}", token.reusable)?;
        if token.used_at > 0 {
            writeln!(out, "Agent             : {}", values::id_text(token.agent_id.as_ref()))?;
            writeln!(out, "Used              : {} from {}", values::time(token.used_at), token.used_from)?;
            writeln!(out, "Key (SHA-256)     : {}", token.key_sha256)?;
        }
        if token.evicted_at > 0 {
            writeln!(out, "Agent evicted     : {} by {}", values::time(token.evicted_at), token.evicted_by)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use svidecar_process::testing::captured;

    use super::*;

    fn printed(print: impl FnOnce(&mut Console) -> Result<(), CliError>) -> (String, String) {
        let (mut console, seen) = captured();
        print(&mut console).unwrap();
        (seen.out(), seen.err())
    }

    #[test]
    fn prints_the_token_and_the_warning() {
        let token = JoinToken { value: "abc.def".to_owned(), expires_at: 0 };
        let (out, _) = printed(|console| print_token(&token, false, console));
        assert_eq!(out, "Token: abc.def\nWarning: Missing SPIFFE ID.\n");
    }

    #[test]
    fn a_reusable_token_comes_with_what_it_means() {
        let id = values::spiffe_id("spiffe://demo.org/spire/agent/join_token/x").unwrap();
        let token = own::CreateJoinTokenResponse {
            value: "abc.def".to_owned(),
            expires_at: 1,
            id: "ab12".to_owned(),
            agent_id: Some(id),
        };
        let (out, err) = printed(|console| print_reusable(&token, true, console));
        assert_eq!(out, "Token: abc.def\n");
        assert!(err.contains("join_token/x until 1970-01-01") && err.contains("-id ab12"), "{err}");
    }
}
