//! `api fetch jwt` and `api validate jwt`, with SPIRE's text.

use std::{collections::BTreeMap, io::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use svidecar_api::{
    claims,
    workload::{JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest},
};
use tonic::Code;

use super::{JwtArgs, ValidateJwtArgs, request};
use crate::cli::{
    console::{Console, Format},
    error::CliError,
};

/// `api fetch jwt`
pub async fn fetch(args: JwtArgs, console: &mut Console) -> Result<(), CliError> {
    let (bundles, answer) = args
        .timeout
        .within(async {
            let mut client = args.socket.client().await?;
            let mut stream = client.fetch_jwt_bundles(request(JwtBundlesRequest {})).await?.into_inner();
            let bundles = stream.message().await?.unwrap_or_default();
            let message = JwtsvidRequest {
                audience: args.audience.clone(),
                spiffe_id: args.spiffe_id.clone().unwrap_or_default(),
            };
            let answer = client.fetch_jwtsvid(request(message)).await?.into_inner();
            Ok((bundles.bundles.into_iter().collect::<BTreeMap<_, _>>(), answer))
        })
        .await?;
    if args.output.output == Format::Json {
        let svids: Vec<Value> = answer
            .svids
            .iter()
            .map(|svid| json!({ "spiffe_id": svid.spiffe_id, "svid": svid.svid, "hint": svid.hint }))
            .collect();
        let bundles: BTreeMap<_, _> =
            bundles.iter().map(|(name, jwks)| (name, BASE64.encode(jwks))).collect();
        return console.json(&json!([{ "svids": svids }, { "bundles": bundles }]));
    }
    for svid in &answer.svids {
        writeln!(console, "token({}):\n\t{}", svid.spiffe_id, svid.svid)?;
        if !svid.hint.is_empty() {
            writeln!(console, "hint({}):\n\t{}", svid.spiffe_id, svid.hint)?;
        }
    }
    for (name, jwks) in &bundles {
        writeln!(console, "bundle({name}):\n\t{}", String::from_utf8_lossy(jwks))?;
    }
    Ok(())
}

/// `api validate jwt`
pub async fn validate(args: ValidateJwtArgs, console: &mut Console) -> Result<(), CliError> {
    let message = ValidateJwtsvidRequest { audience: args.audience.clone(), svid: args.svid.clone() };
    let answer = args
        .timeout
        .within(async {
            let mut client = args.socket.client().await?;
            client.validate_jwtsvid(request(message)).await.map(tonic::Response::into_inner).map_err(
                |status| match status.code() {
                    Code::InvalidArgument => {
                        CliError::Message(format!("SVID is not valid: {}", status.message()))
                    }
                    _ => CliError::Message(format!("unable to validate JWT SVID: {}", CliError::Rpc(status))),
                },
            )
        })
        .await?;
    let claims = Value::Object(claims::from_struct(answer.claims.unwrap_or_default()));
    if args.output.output == Format::Json {
        return console.json(&json!({ "spiffe_id": answer.spiffe_id, "claims": claims }));
    }
    writeln!(console, "SVID is valid.")?;
    writeln!(console, "SPIFFE ID : {}", answer.spiffe_id)?;
    Ok(writeln!(console, "Claims    : {claims}")?)
}
