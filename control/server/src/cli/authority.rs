//! `authority list|rotate|taint|revoke`: the keys that others believe the server by.
//!
//! Owns what is said of a change before it is made. Nothing is changed without `--yes`. Authorities are changed by SPIRE's own
//! calls (`spire-server localauthority` makes the same), bootstrap keys by ours.

mod text;

use clap::{Args, Subcommand, ValueEnum};
use svidecar_api::{
    spire::api::server::localauthority::v1::{
        self as api, AuthorityState, local_authority_client::LocalAuthorityClient,
    },
    svidecar::server::v1 as own,
};
use svidecar_config::HumanDuration;
use svidecar_process::console::{Console, OutputArgs};
use tokio::time::sleep;
use tonic::transport::Channel;

use super::{CliError, ServerSocket, output};

#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// Lists the keys of a kind
    List(ListArgs),
    /// Makes a new key and uses it from then on; those of before stay good for what they were made for
    Rotate(RotateArgs),
    /// Has all that an old authority signed replaced, while it is still believed
    Taint(OneArgs),
    /// Removes an old key; what rests on it is refused from then on
    Revoke(OneArgs),
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Signs X.509-SVIDs
    X509,
    /// Signs JWT-SVIDs
    Jwt,
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
    /// How long a new authority is in everybody's bundle before it signs
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    settle: HumanDuration,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args, Debug)]
pub(super) struct OneArgs {
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

impl ChangeArgs {
    /// That it is to be done.
    fn confirm(&self, what: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        Err(CliError::message(format!("{what}\n  Nothing was done yet; run it again with --yes to do it")))
    }

    async fn authorities(&self) -> Result<LocalAuthorityClient<Channel>, CliError> {
        self.server.authorities().await
    }

    fn print(
        &self,
        state: Option<&AuthorityState>,
        what: &str,
        console: &mut Console,
    ) -> Result<(), CliError> {
        let state = state.cloned().unwrap_or_default();
        output::print(console, self.output, &state, |state, console| {
            Ok(console.line(format!("{what}:\n{}", text::authority(state)))?)
        })
    }
}

pub(super) async fn run(command: AuthorityCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        AuthorityCommand::List(args) => list(args, console).await,
        AuthorityCommand::Rotate(args) => match args.kind {
            Kind::X509 | Kind::Jwt => rotate(&args, console).await,
            Kind::Bootstrap => rotate_bootstrap(&args.change, console).await,
        },
        AuthorityCommand::Taint(args) => taint(&args, console).await,
        AuthorityCommand::Revoke(args) => match args.kind {
            Kind::X509 | Kind::Jwt => revoke(&args, console).await,
            Kind::Bootstrap => revoke_bootstrap(&args, console).await,
        },
    }
}

async fn list(args: ListArgs, console: &mut Console) -> Result<(), CliError> {
    let ListArgs { kind, output, server } = args;
    match kind {
        Kind::X509 => {
            let mut client = server.authorities().await?;
            let request = api::GetX509AuthorityStateRequest {};
            let found = client.get_x509_authority_state(request).await?.into_inner();
            output::print(console, output, &found, |found, console| {
                Ok(console.line(text::authorities(&found.active, &found.prepared, &found.old))?)
            })
        }
        Kind::Jwt => {
            let mut client = server.authorities().await?;
            let request = api::GetJwtAuthorityStateRequest {};
            let found = client.get_jwt_authority_state(request).await?.into_inner();
            output::print(console, output, &found, |found, console| {
                Ok(console.line(text::authorities(&found.active, &found.prepared, &found.old))?)
            })
        }
        Kind::Bootstrap => {
            let request = own::ListBootstrapKeysRequest {};
            let found = server.bootstrap_keys().await?.list_bootstrap_keys(request).await?.into_inner();
            output::print(
                console,
                output,
                &found,
                |found, console| Ok(console.line(text::keys(&found.keys))?),
            )
        }
    }
}

/// Prepares, waits, activates.
async fn rotate(args: &RotateArgs, console: &mut Console) -> Result<(), CliError> {
    args.change.confirm(&format!(
        "Makes a new authority, publishes it, waits {} until everybody has it, and signs by it from then on. The one of now is \
         believed as before. If its key is known to others, `authority taint` it then, and `authority revoke` it at last.",
        args.settle
    ))?;
    let mut client = args.change.authorities().await?;
    let prepared = match args.kind {
        Kind::Jwt => {
            client
                .prepare_jwt_authority(api::PrepareJwtAuthorityRequest {})
                .await?
                .into_inner()
                .prepared_authority
        }
        _ => {
            client
                .prepare_x509_authority(api::PrepareX509AuthorityRequest {})
                .await?
                .into_inner()
                .prepared_authority
        }
    };
    let authority_id = prepared.unwrap_or_default().authority_id;
    console.note(&format!("Prepared {authority_id}; it signs in {}", args.settle));
    sleep(args.settle.get()).await;
    let active = match args.kind {
        Kind::Jwt => {
            let request = api::ActivateJwtAuthorityRequest { authority_id };
            client.activate_jwt_authority(request).await?.into_inner().activated_authority
        }
        _ => {
            let request = api::ActivateX509AuthorityRequest { authority_id };
            client.activate_x509_authority(request).await?.into_inner().activated_authority
        }
    };
    args.change.print(active.as_ref(), "Signs from now on", console)
}

async fn taint(args: &OneArgs, console: &mut Console) -> Result<(), CliError> {
    args.change.confirm(
        "Has agents replace all that this old authority signed, at once. It is believed as before, so that nobody fails meanwhile; \
         revoke it when they are done, within a minute.",
    )?;
    let (authority_id, mut client) = (args.id.clone(), args.change.authorities().await?);
    let tainted = match args.kind {
        Kind::X509 => {
            let request = api::TaintX509AuthorityRequest { authority_id };
            client.taint_x509_authority(request).await?.into_inner().tainted_authority
        }
        Kind::Jwt => {
            let request = api::TaintJwtAuthorityRequest { authority_id };
            client.taint_jwt_authority(request).await?.into_inner().tainted_authority
        }
        Kind::Bootstrap => {
            return Err(CliError::message(
                "nothing that a bootstrap key signed can be replaced; rotate it, and revoke it",
            ));
        }
    };
    args.change.print(tainted.as_ref(), "Tainted", console)
}

async fn revoke(args: &OneArgs, console: &mut Console) -> Result<(), CliError> {
    args.change.confirm(
        "Takes this old authority out of the bundle for ever. Nothing that it signed is believed from then on: workloads that still hold \
         such an SVID are refused until their agent has a new one for them. Taint it first, so that none do.",
    )?;
    let (authority_id, mut client) = (args.id.clone(), args.change.authorities().await?);
    let revoked = match args.kind {
        Kind::Jwt => {
            let request = api::RevokeJwtAuthorityRequest { authority_id };
            client.revoke_jwt_authority(request).await?.into_inner().revoked_authority
        }
        _ => {
            let request = api::RevokeX509AuthorityRequest { authority_id };
            client.revoke_x509_authority(request).await?.into_inner().revoked_authority
        }
    };
    args.change.print(revoked.as_ref(), "Revoked", console)
}

async fn rotate_bootstrap(change: &ChangeArgs, console: &mut Console) -> Result<(), CliError> {
    change.confirm(
        "Makes a new bootstrap key, which join tokens name from now on. Tokens that are out stay good, and no agent notices.",
    )?;
    let mut client = change.server.bootstrap_keys().await?;
    let rotated = client.rotate_bootstrap_key(own::RotateBootstrapKeyRequest {}).await?.into_inner();
    output::print(console, change.output, &rotated, |rotated, console| {
        Ok(console.line(text::keys(rotated.key.as_slice()))?)
    })
}

async fn revoke_bootstrap(args: &OneArgs, console: &mut Console) -> Result<(), CliError> {
    args.change.confirm(
        "Removes this bootstrap key for ever. Join tokens that name it are good for nothing from then on; make new ones for machines that \
         have not joined yet. Agents that have joined stay; one that was away since before the key was rotated cannot come back \
         without a new token.",
    )?;
    let request = own::RevokeBootstrapKeyRequest { sha256: args.id.clone() };
    let mut client = args.change.server.bootstrap_keys().await?;
    let revoked = client.revoke_bootstrap_key(request).await?.into_inner();
    output::print(console, args.change.output, &revoked, |_, console| {
        Ok(console.line("Bootstrap key revoked")?)
    })
}
