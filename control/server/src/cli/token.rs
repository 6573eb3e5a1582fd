//! `token generate`.

use clap::{Args, Subcommand};
use svidecar_api::spire::api::{server::agent::v1::CreateJoinTokenRequest, types::JoinToken};

use super::{CliError, Console, ServerSocket, console::OutputArgs, values};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Generates a join token
    ///
    /// It joins one agent: the first that uses it. `svidecar-agent run --join-token TOKEN` does.
    Generate(GenerateArgs),
}

#[derive(Args, Debug)]
pub(super) struct GenerateArgs {
    /// How long it may be used, in seconds or as a duration (10m)
    #[arg(long, default_value = "600", value_parser = values::seconds, allow_negative_numbers = true)]
    ttl: i32,
    /// A SPIFFE ID for the agent, which can be the parent of entries
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn run(command: TokenCommand, console: &mut Console<'_>) -> Result<(), CliError> {
    let TokenCommand::Generate(args) = command;
    let agent_id =
        args.spiffe_id.as_deref().filter(|id| !id.is_empty()).map(values::spiffe_id).transpose()?;
    let named = agent_id.is_some();
    let request = CreateJoinTokenRequest { ttl: args.ttl, token: String::new(), agent_id };
    let token = args.server.agents().await?.create_join_token(request).await?.into_inner();
    console.print(args.output, &token, |token, console| print_token(token, named, console))
}

fn print_token(token: &JoinToken, named: bool, console: &mut Console<'_>) -> Result<(), CliError> {
    writeln!(console.out(), "Token: {}", token.value)?;
    if !named {
        writeln!(console.out(), "Warning: Missing SPIFFE ID.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_token_and_the_warning() {
        let token = JoinToken { value: "abc.def".to_owned(), expires_at: 0 };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        print_token(&token, false, &mut Console::of_buffers(&mut out, &mut err)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "Token: abc.def\nWarning: Missing SPIFFE ID.\n");
    }
}
