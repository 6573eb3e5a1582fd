//! `x509 mint` and `jwt mint`.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use serde_json::json;
use svidecar_api::spire::api::server::{
    bundle::v1::GetBundleRequest,
    svid::v1::{MintJwtsvidRequest, MintX509svidRequest},
};
use svidecar_authority::{
    csr,
    key::{KeyType, PrivateKey},
    pem,
};
use svidecar_config::HumanDuration;
use svidecar_id::SpiffeId;
use svidecar_process::{
    clock,
    console::{Console, Format, OutputArgs},
};

use super::{CliError, ServerSocket, files, output, values};

#[derive(Debug, Subcommand)]
pub(super) enum X509Command {
    /// Mints an X.509-SVID with a new key, which never leaves this command
    Mint(X509MintArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum JwtCommand {
    /// Mints a JWT-SVID
    Mint(JwtMintArgs),
}

#[derive(Args, Debug)]
pub(super) struct X509MintArgs {
    /// The SPIFFE ID of the SVID
    #[arg(long, value_name = "ID")]
    spiffe_id: String,
    /// A DNS name for the SVID (repeatable)
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// How long it lives, such as 1h; the server's default when it is not given
    #[arg(long, default_value = "0", value_name = "DURATION")]
    ttl: HumanDuration,
    /// Writes svid.pem, key.pem and bundle.pem into this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub(super) struct JwtMintArgs {
    /// The SPIFFE ID of the SVID
    #[arg(long, value_name = "ID")]
    spiffe_id: String,
    /// Whom the token is for (repeatable)
    #[arg(long, required = true)]
    audience: Vec<String>,
    /// How long it lives, such as 5m; the server's default when it is not given
    #[arg(long, default_value = "0", value_name = "DURATION")]
    ttl: HumanDuration,
    /// Writes the token into this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerSocket,
}

pub(super) async fn x509(command: X509Command, console: &mut Console) -> Result<(), CliError> {
    let X509Command::Mint(args) = command;
    let id = SpiffeId::parse(&args.spiffe_id)
        .map_err(|error| CliError::Message(format!("`{}` is not a SPIFFE ID: {error}", args.spiffe_id)))?;
    let key = PrivateKey::generate(KeyType::EcP256)?;
    let request = MintX509svidRequest { csr: csr::create(&key, Some(&id), &args.dns)?, ttl: ttl(args.ttl)? };
    let answer = args.server.svids().await?.mint_x509svid(request).await;
    let svid = answer.map_err(CliError::doing("unable to mint SVID"))?.into_inner().svid.unwrap_or_default();
    if svid.cert_chain.is_empty() {
        return Err(CliError::message("server response missing SVID chain"));
    }
    let answer = args.server.bundles().await?.get_bundle(GetBundleRequest::default()).await;
    let bundle = answer.map_err(CliError::doing("unable to get bundle"))?.into_inner();
    let roots: Vec<Vec<u8>> = bundle.x509_authorities.into_iter().map(|root| root.asn1).collect();
    if roots.is_empty() {
        return Err(CliError::message("server response missing X509 Authorities"));
    }
    warn_if_capped("X509-SVID", args.ttl, svid.expires_at, console)?;

    let [svid_pem, bundle_pem] = [&svid.cert_chain, &roots]
        .map(|list| list.iter().map(|der| pem::encode("CERTIFICATE", der).to_string()).collect::<String>());
    let key_pem = key.to_pkcs8_pem();
    if let Some(directory) = &args.write {
        for (what, name, mode, content) in [
            ("X509-SVID", "svid.pem", 0o644, svid_pem.as_str()),
            ("Private key", "key.pem", 0o600, key_pem.as_str()),
            ("Root CAs", "bundle.pem", 0o644, bundle_pem.as_str()),
        ] {
            let path = directory.join(name);
            files::write(&path, mode, content.as_bytes())?;
            writeln!(console.out(), "{what} written to {}", path.display())?;
        }
        return Ok(());
    }
    match args.output.output {
        Format::Pretty => {
            writeln!(console.out(), "X509-SVID:\n{svid_pem}")?;
            writeln!(console.out(), "Private key:\n{}", key_pem.as_str())?;
            Ok(writeln!(console.out(), "Root CAs:\n{bundle_pem}")?)
        }
        Format::Json => {
            let encode = |list: &[Vec<u8>]| list.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>();
            Ok(console.json(&json!({
                "x509_svid": encode(&svid.cert_chain),
                "private_key": STANDARD.encode(key.pkcs8_der()),
                "root_cas": encode(&roots),
            }))?)
        }
    }
}

pub(super) async fn jwt(command: JwtCommand, console: &mut Console) -> Result<(), CliError> {
    let JwtCommand::Mint(args) = command;
    let request = MintJwtsvidRequest {
        id: Some(values::spiffe_id(&args.spiffe_id)?),
        audience: args.audience.clone(),
        ttl: ttl(args.ttl)?,
    };
    let answer = args.server.svids().await?.mint_jwtsvid(request).await;
    let response = answer.map_err(CliError::doing("unable to mint SVID"))?.into_inner();
    let (token, expires_at) =
        response.svid.as_ref().map(|svid| (svid.token.clone(), svid.expires_at)).unwrap_or_default();
    if token.is_empty() {
        return Err(CliError::message("server response missing token"));
    }
    warn_if_capped("JWT-SVID", args.ttl, expires_at, console)?;
    let Some(path) = &args.write else {
        return output::print(console, args.output, &response, |_, console| {
            Ok(writeln!(console.out(), "{token}")?)
        });
    };
    files::write(path, 0o600, token.as_bytes())?;
    Ok(writeln!(console.out(), "JWT-SVID written to {}", path.display())?)
}

fn ttl(duration: HumanDuration) -> Result<i32, CliError> {
    values::whole_seconds(duration)
        .ok_or_else(|| CliError::Message(format!("invalid value for TTL: {duration} is too long")))
}

/// Says on stderr when less was granted than was asked for.
fn warn_if_capped(
    what: &str,
    asked: HumanDuration,
    expires_at: i64,
    console: &mut Console,
) -> Result<(), CliError> {
    let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(expires_at).unwrap_or_default());
    // A few seconds go by between the signature and here, and the wire has whole seconds.
    let slack = Duration::from_secs(10);
    if ends + slack < clock::wall() + asked.get() {
        let ends = values::rfc3339(expires_at);
        writeln!(console.err(), "{what} lifetime was capped shorter than specified ttl; expires \"{ends}\"")?;
    }
    Ok(())
}
