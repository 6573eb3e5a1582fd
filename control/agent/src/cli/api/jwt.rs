//! `api fetch jwt` and `api validate jwt`, with SPIRE's text.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use svidecar_api::claims;
use svidecar_process::console::{Console, Format};
use svidecar_workload::ClientError;
use tonic::Code;

use super::args::{JwtArgs, ValidateJwtArgs};
use crate::cli::error::CliError;

/// `api fetch jwt`
pub async fn fetch(args: JwtArgs, console: &mut Console) -> Result<(), CliError> {
    let (bundles, svids) = args
        .timeout
        .within(async {
            let client = args.socket.client().await?;
            let bundles: BTreeMap<_, _> = client.fetch_jwt_bundles().await?.into_iter().collect();
            let svids = client.fetch_jwt_svids(args.audience.clone(), args.spiffe_id.clone()).await?;
            Ok((bundles, svids))
        })
        .await?;
    if args.output.output == Format::Json {
        let svids: Vec<Value> = svids
            .iter()
            .map(|svid| json!({ "spiffe_id": svid.spiffe_id, "svid": svid.svid, "hint": svid.hint }))
            .collect();
        let bundles: BTreeMap<_, _> =
            bundles.iter().map(|(name, jwks)| (name, BASE64.encode(jwks))).collect();
        return Ok(console.json(&json!([{ "svids": svids }, { "bundles": bundles }]))?);
    }
    for svid in &svids {
        writeln!(console.out(), "token({}):\n\t{}", svid.spiffe_id, svid.svid)?;
        if !svid.hint.is_empty() {
            writeln!(console.out(), "hint({}):\n\t{}", svid.spiffe_id, svid.hint)?;
        }
    }
    for (name, jwks) in &bundles {
        writeln!(console.out(), "bundle({name}):\n\t{}", String::from_utf8_lossy(jwks))?;
    }
    Ok(())
}

/// `api validate jwt`
pub async fn validate(args: ValidateJwtArgs, console: &mut Console) -> Result<(), CliError> {
    let answer = args
        .timeout
        .within(async {
            let client = args.socket.client().await?;
            let answer = client.validate_jwt_svid(args.audience.clone(), args.svid.clone()).await;
            answer.map_err(|error| match error {
                ClientError::Status(status) if status.code() == Code::InvalidArgument => {
                    CliError::Message(format!("SVID is not valid: {}", status.message()))
                }
                error => CliError::Message(format!("unable to validate JWT SVID: {}", CliError::from(error))),
            })
        })
        .await?;
    let claims = Value::Object(claims::from_struct(answer.claims.unwrap_or_default()));
    if args.output.output == Format::Json {
        return Ok(console.json(&json!({ "spiffe_id": answer.spiffe_id, "claims": claims }))?);
    }
    console.line("SVID is valid.")?;
    console.line(format!("SPIFFE ID : {}", answer.spiffe_id))?;
    Ok(console.line(format!("Claims    : {claims}"))?)
}
