//! `bundle show|list|set|delete|count`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use svidecar_api::spire::api::{
    server::bundle::v1::{
        BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest, CountBundlesRequest,
        GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
        ListFederatedBundlesResponse, batch_delete_federated_bundle_request::Mode,
    },
    types,
};
use svidecar_authority::{
    CertificateDer, UnixTime,
    bundle::{Bundle, JwtKey},
};
use svidecar_id::TrustDomain;
use svidecar_process::console::{Console, OutputArgs};

use super::{CliError, ServerSocket, files, output, values};

#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Prints the bundle of our trust domain
    Show(ShowArgs),
    /// Lists the bundles of federated trust domains
    List(ListArgs),
    /// Stores the bundle of a federated trust domain
    Set(SetArgs),
    /// Deletes the bundle of a federated trust domain
    Delete(DeleteArgs),
    /// Counts the bundles, ours among them
    Count(CountArgs),
}

/// How a bundle is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum BundleFormat {
    /// Root certificates only
    #[default]
    Pem,
    /// The SPIFFE bundle document: roots, token keys and sequence number
    Spiffe,
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// How it is written
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    format: BundleFormat,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Only this trust domain
    #[arg(long, value_name = "TRUST_DOMAIN")]
    id: Option<String>,
    /// How they are written
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    format: BundleFormat,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct SetArgs {
    /// The trust domain, such as spiffe://partner.org
    #[arg(long, value_name = "TRUST_DOMAIN")]
    id: String,
    /// The file with the bundle; stdin when it is not given
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// How it is written
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    format: BundleFormat,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// The trust domain, such as spiffe://partner.org
    #[arg(long, value_name = "TRUST_DOMAIN")]
    id: String,
    /// What becomes of entries that federate with it
    #[arg(long, value_enum, default_value_t)]
    mode: DeleteMode,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DeleteMode {
    /// They keep the bundle from being deleted
    #[default]
    Restrict,
    /// They stay, without that trust domain
    Dissociate,
    /// They are deleted too
    Delete,
}

#[derive(Args, Debug)]
pub(super) struct CountArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn run(command: BundleCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        BundleCommand::Show(args) => {
            let bundle =
                args.server.bundles().await?.get_bundle(GetBundleRequest::default()).await?.into_inner();
            output::print(console, args.output, &bundle, |bundle, console| {
                print(bundle, args.format, console)
            })
        }
        BundleCommand::List(args) => list(args, console).await,
        BundleCommand::Set(args) => set(args, console).await,
        BundleCommand::Delete(args) => delete(args, console).await,
        BundleCommand::Count(args) => {
            let response =
                args.server.bundles().await?.count_bundles(CountBundlesRequest {}).await?.into_inner();
            output::print(console, args.output, &response, |response, console| {
                let number = usize::try_from(response.count).unwrap_or_default();
                Ok(writeln!(console.out(), "{}", values::count(number, "bundle", "bundles"))?)
            })
        }
    }
}

async fn list(args: ListArgs, console: &mut Console) -> Result<(), CliError> {
    let mut client = args.server.bundles().await?;
    if let Some(trust_domain) = args.id {
        let request = GetFederatedBundleRequest { trust_domain, output_mask: None };
        let bundle = client.get_federated_bundle(request).await?.into_inner();
        return output::print(console, args.output, &bundle, |bundle, console| {
            print(bundle, args.format, console)
        });
    }
    let mut all = ListFederatedBundlesResponse::default();
    let mut page_token = String::new();
    loop {
        let request = ListFederatedBundlesRequest { output_mask: None, page_size: 100, page_token };
        let page = client.list_federated_bundles(request).await?.into_inner();
        all.bundles.extend(page.bundles);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    output::print(console, args.output, &all, |all, console| print_list(&all.bundles, args.format, console))
}

async fn set(args: SetArgs, console: &mut Console) -> Result<(), CliError> {
    let document = files::read(args.path.as_deref().unwrap_or_else(|| Path::new("-")))?;
    let bundle = to_message(&parse(&args.id, args.format, &document)?);
    let request = BatchSetFederatedBundleRequest { bundle: vec![bundle], output_mask: None };
    let response = args
        .server
        .bundles()
        .await?
        .batch_set_federated_bundle(request)
        .await
        .map_err(CliError::doing("failed to set federated bundle"))?
        .into_inner();
    output::print(console, args.output, &response, |response, console| {
        match response.results.first().and_then(|result| result.status.as_ref()) {
            Some(status) if status.code == 0 => Ok(writeln!(console.out(), "bundle set.")?),
            Some(status) => {
                Err(CliError::Message(format!("failed to set federated bundle: {}", status.message)))
            }
            None => Err(CliError::message("failed to set federated bundle: the server gave no result")),
        }
    })
}

async fn delete(args: DeleteArgs, console: &mut Console) -> Result<(), CliError> {
    let mode = match args.mode {
        DeleteMode::Restrict => Mode::Restrict,
        DeleteMode::Dissociate => Mode::Dissociate,
        DeleteMode::Delete => Mode::Delete,
    };
    let request =
        BatchDeleteFederatedBundleRequest { trust_domains: vec![args.id.clone()], mode: mode.into() };
    let response = args
        .server
        .bundles()
        .await?
        .batch_delete_federated_bundle(request)
        .await
        .map_err(CliError::doing("failed to delete federated bundle"))?
        .into_inner();
    output::print(console, args.output, &response, |response, console| {
        let failed = |name: &str, why: &str| {
            CliError::Message(format!("failed to delete federated bundle \"{name}\": {why}"))
        };
        let Some(result) = response.results.first() else {
            return Err(failed(&args.id, "the server gave no result"));
        };
        match &result.status {
            Some(status) if status.code != 0 => Err(failed(&result.trust_domain, &status.message)),
            _ => Ok(writeln!(console.out(), "bundle deleted.")?),
        }
    })
}

fn print(bundle: &types::Bundle, format: BundleFormat, console: &mut Console) -> Result<(), CliError> {
    let bundle = of_message(bundle)?;
    match format {
        BundleFormat::Pem => write!(console.out(), "{}", bundle.to_pem())?,
        BundleFormat::Spiffe => writeln!(console.out(), "{}", bundle.to_spiffe_json_pretty()?.trim_end())?,
    }
    Ok(())
}

fn print_list(
    bundles: &[types::Bundle],
    format: BundleFormat,
    console: &mut Console,
) -> Result<(), CliError> {
    let line = "*".repeat(40);
    for (position, bundle) in bundles.iter().enumerate() {
        if position > 0 {
            writeln!(console.out())?;
        }
        writeln!(console.out(), "{line}\n* {}\n{line}", bundle.trust_domain)?;
        print(bundle, format, console)?;
    }
    Ok(())
}

fn parse(id: &str, format: BundleFormat, document: &[u8]) -> Result<Bundle, CliError> {
    let trust_domain = TrustDomain::parse_lenient(id)
        .map_err(|error| CliError::Message(format!("`{id}` is not a trust domain: {error}")))?;
    let parsed = match format {
        BundleFormat::Pem => Bundle::from_pem(trust_domain, document),
        BundleFormat::Spiffe => Bundle::from_spiffe_json(trust_domain, document),
    };
    parsed.map_err(|error| CliError::Message(format!("unable to parse bundle data: {error}")))
}

fn of_message(bundle: &types::Bundle) -> Result<Bundle, CliError> {
    let trust_domain = TrustDomain::parse_lenient(&bundle.trust_domain).map_err(|error| {
        CliError::Message(format!("the server sent `{}` as a trust domain: {error}", bundle.trust_domain))
    })?;
    let jwt_key = |key: &types::JwtKey| JwtKey {
        kid: key.key_id.clone(),
        spki_der: key.public_key.clone(),
        expires_at: u64::try_from(key.expires_at)
            .ok()
            .filter(|at| *at > 0)
            .map(|at| UnixTime::since_unix_epoch(Duration::from_secs(at))),
    };
    Ok(Bundle {
        tainted: Vec::new(),
        trust_domain,
        x509_authorities: bundle
            .x509_authorities
            .iter()
            .map(|root| CertificateDer::from(root.asn1.clone()))
            .collect(),
        jwt_authorities: bundle.jwt_authorities.iter().map(jwt_key).collect(),
        sequence: bundle.sequence_number,
        refresh_hint: u64::try_from(bundle.refresh_hint)
            .ok()
            .filter(|hint| *hint > 0)
            .map(Duration::from_secs),
    })
}

fn to_message(bundle: &Bundle) -> types::Bundle {
    let seconds = |at: UnixTime| i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    types::Bundle {
        trust_domain: bundle.trust_domain.to_string(),
        x509_authorities: bundle
            .x509_authorities
            .iter()
            .map(|root| types::X509Certificate { asn1: root.to_vec(), tainted: false })
            .collect(),
        jwt_authorities: bundle
            .jwt_authorities
            .iter()
            .map(|key| types::JwtKey {
                public_key: key.spki_der.clone(),
                key_id: key.kid.clone(),
                expires_at: key.expires_at.map(seconds).unwrap_or_default(),
                tainted: false,
            })
            .collect(),
        refresh_hint: bundle
            .refresh_hint
            .map(|hint| i64::try_from(hint.as_secs()).unwrap_or(i64::MAX))
            .unwrap_or_default(),
        sequence_number: bundle.sequence,
        wit_authorities: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
