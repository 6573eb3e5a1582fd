//! `authority list|rotate|revoke`: the keys that others believe the server by.
//!
//! Owns what is said of a change before it is made. Nothing is changed without `--yes`.

use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use svidecar_api::svidecar::server::v1 as own;
use svidecar_process::console::{Console, OutputArgs};

use super::{CliError, ServerSocket, output, values};

#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// Lists the keys of a kind
    List(ListArgs),
    /// Makes a new key; those of before stay good for what they were made for
    Rotate(RotateArgs),
    /// Removes a key; what rests on it is refused from then on
    Revoke(RevokeArgs),
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Names the server in join tokens, and proves at first contact that it is that one
    Bootstrap,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// What the keys are for
    kind: Kind,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// What the key is for
    kind: Kind,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    /// What the key is for
    kind: Kind,
    /// Which one, as `authority list` shows it
    #[arg(long, value_name = "ID")]
    id: String,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args, Debug)]
struct ChangeArgs {
    /// Does it; without this, only what it would do is said
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn run(command: AuthorityCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        AuthorityCommand::List(ListArgs { kind: Kind::Bootstrap, output, server }) => {
            let request = own::ListBootstrapKeysRequest {};
            let found = server.bootstrap_keys().await?.list_bootstrap_keys(request).await?.into_inner();
            output::print(console, output, &found, |found, console| {
                let shown: String = found.keys.iter().map(described).collect();
                Ok(console.line(shown.trim_end())?)
            })
        }
        AuthorityCommand::Rotate(RotateArgs { kind: Kind::Bootstrap, change }) => {
            change.confirm(
                "Makes a new bootstrap key, which join tokens name from now on. Tokens that are out stay good, and no \
                 agent notices.",
            )?;
            let request = own::RotateBootstrapKeyRequest {};
            let mut client = change.server.bootstrap_keys().await?;
            let rotated = client.rotate_bootstrap_key(request).await?.into_inner();
            output::print(console, change.output, &rotated, |rotated, console| {
                let shown: String = rotated.key.iter().map(described).collect();
                Ok(console.line(shown.trim_end())?)
            })
        }
        AuthorityCommand::Revoke(RevokeArgs { kind: Kind::Bootstrap, id, change }) => {
            change.confirm(
                "Removes this bootstrap key for ever. Join tokens that name it are good for nothing from then on; make new \
                 ones for machines that have not joined yet. Agents that have joined stay.",
            )?;
            let request = own::RevokeBootstrapKeyRequest { sha256: id };
            let mut client = change.server.bootstrap_keys().await?;
            let revoked = client.revoke_bootstrap_key(request).await?.into_inner();
            output::print(console, change.output, &revoked, |_, console| {
                Ok(console.line("Bootstrap key revoked")?)
            })
        }
    }
}

impl ChangeArgs {
    /// That it is to be done.
    fn confirm(&self, what: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        Err(CliError::message(format!("{what}\n  Nothing was done yet; run it again with --yes to do it")))
    }
}

fn described(key: &own::BootstrapKey) -> String {
    let mut text = String::new();
    // A string takes all that is written to it.
    let _ = writeln!(text, "Key (SHA-256)     : {}", key.sha256);
    let _ = writeln!(text, "Created           : {}", values::time(key.created_at));
    let _ = writeln!(text, "In new tokens     : {}\n", key.current);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_with_the_hash_that_tokens_carry() {
        let key = own::BootstrapKey { sha256: "ab12".to_owned(), created_at: 0, current: true };
        let shown = described(&key);
        assert!(shown.contains("ab12") && shown.contains("1970-01-01") && shown.contains("true"), "{shown}");
    }
}
