//! The workload's identity for local apps that speak HTTP and JSON and no gRPC: what is no secret of it.

use http::StatusCode;
use rustls_pki_types::UnixTime;
use serde_json::{Map, Value, json};
use svidecar_api::claims;
use svidecar_authority::{
    bundle::Bundle,
    pem,
    time::rfc3339,
    x509::{inspect::CertInfo, verify::verify_peer},
};
use svidecar_process::{clock, http::Reply};
use svidecar_workload::{Client, ClientError, Svid};

use super::{pages::certificate, view::Admin};

/// What there is when the Workload API has given nothing (yet): the same shape on every page.
fn not_enabled(admin: &Admin) -> Reply {
    let snapshot = admin.shared.current.load();
    let status = &snapshot.identity.status;
    let body = json!({
        "enabled": false,
        "state": status.state.code(),
        "message": status.detail,
        "workload_api": admin.endpoint.to_string(),
    });
    Reply::json_indented(StatusCode::SERVICE_UNAVAILABLE, &body)
}

fn with_svid(admin: &Admin, page: impl FnOnce(&Svid, UnixTime) -> Reply) -> Reply {
    let snapshot = admin.shared.current.load();
    let now = clock::unix();
    match snapshot.identity.valid_svid(now) {
        Some(svid) => page(svid, now),
        None => not_enabled(admin),
    }
}

pub(super) fn status(admin: &Admin) -> Reply {
    let snapshot = admin.shared.current.load();
    let identity = &snapshot.identity;
    let now = clock::unix();
    let svid = identity.valid_svid(now);
    let trusted: Vec<_> = identity.bundles.iter().map(|bundle| bundle.trust_domain.to_string()).collect();
    let body = json!({
        "enabled": svid.is_some(),
        "state": identity.status.state.code(),
        "message": identity.status.detail,
        "since": rfc3339(identity.status.since),
        "workload_api": admin.endpoint.to_string(),
        "spiffe_id": svid.map(|svid| svid.id.as_str()),
        "trust_domain": svid.map(|svid| svid.id.trust_domain_str()),
        "expires_at": svid.map(|svid| rfc3339(svid.leaf.not_after)),
        "seconds_left": svid.map(|svid| svid.seconds_left(now)),
        "trusted_domains": trusted,
    });
    Reply::json_indented(StatusCode::OK, &body)
}

pub(super) fn workload(admin: &Admin) -> Reply {
    let snapshot = admin.shared.current.load();
    let identities: Vec<Value> = snapshot
        .identity
        .all
        .iter()
        .map(|svid| json!({ "spiffe_id": svid.id, "hint": svid.hint, "expires_at": rfc3339(svid.leaf.not_after) }))
        .collect();
    let body = json!({
        "enabled": !identities.is_empty(),
        "message": snapshot.identity.status.detail,
        "pid": std::process::id(),
        "uid": nix::unistd::getuid().as_raw(),
        "gid": nix::unistd::getgid().as_raw(),
        "identities": identities,
    });
    Reply::json_indented(StatusCode::OK, &body)
}

pub(super) fn svid(admin: &Admin) -> Reply {
    with_svid(admin, |svid, now| {
        let mut body = json!({
            "enabled": true,
            "spiffe_id": svid.id,
            "hint": svid.hint,
            "seconds_left": svid.seconds_left(now),
            "chain_length": svid.chain.len(),
        });
        if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), certificate(&svid.leaf)) {
            body.extend(fields);
        }
        Reply::json_indented(StatusCode::OK, &body)
    })
}

pub(super) fn chain(admin: &Admin) -> Reply {
    with_svid(admin, |svid, _| {
        Reply::of_type("application/pem-certificate-chain", pem::encode_certificates(&svid.chain))
    })
}

pub(super) fn trust_bundle(admin: &Admin) -> Reply {
    let snapshot = admin.shared.current.load();
    if snapshot.identity.bundles.is_empty() {
        return not_enabled(admin);
    }
    let domains: Map<String, Value> = snapshot
        .identity
        .bundles
        .iter()
        .map(|bundle| (bundle.trust_domain.to_string(), Value::String(bundle.to_pem())))
        .collect();
    Reply::json_indented(StatusCode::OK, &json!({ "enabled": true, "trust_domains": domains }))
}

/// The document of our own trust domain (SPIFFE Trust Domain and Bundle §4), with the token keys that the agent knows.
pub(super) async fn bundle(admin: &Admin) -> Reply {
    let own = {
        let snapshot = admin.shared.current.load();
        let svid = snapshot.identity.valid_svid(clock::unix());
        svid.and_then(|svid| snapshot.identity.bundles.get(&svid.id.trust_domain()).cloned())
    };
    let Some(own) = own else { return not_enabled(admin) };
    let mut document = Bundle::clone(&own);
    let keys = async { Client::connect(&admin.endpoint).await?.fetch_jwt_bundles().await };
    if let Ok(mut keys) = keys.await
        && let Some(keys) = keys.remove(own.trust_domain.id().as_str())
    {
        document.jwt_authorities = Bundle::jwt_keys_from_jwks(&keys).unwrap_or_default();
    }
    match document.to_spiffe_json() {
        Ok(text) => Reply::of_type("application/json", text),
        Err(error) => {
            Reply::error(StatusCode::INTERNAL_SERVER_ERROR, error.code().name(), &error.to_string())
        }
    }
}

pub(super) async fn validate_jwt(admin: &Admin, body: &Value) -> Reply {
    let field = |name: &str| body.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let (Some(token), Some(audience)) = (field("token"), field("audience")) else {
        let message = "expected {\"token\": \"…\", \"audience\": \"…\"}";
        return Reply::error(StatusCode::BAD_REQUEST, "bad_body", message);
    };
    let valid = async { Client::connect(&admin.endpoint).await?.validate_jwt_svid(audience, token).await };
    match valid.await {
        Ok(answer) => {
            let claims = answer.claims.map(claims::from_struct);
            let body = json!({ "valid": true, "spiffe_id": answer.spiffe_id, "claims": claims });
            Reply::json_indented(StatusCode::OK, &body)
        }
        Err(ClientError::Status(status)) if status.code() == tonic::Code::InvalidArgument => {
            Reply::json_indented(StatusCode::OK, &json!({ "valid": false, "message": status.message() }))
        }
        Err(error) => Reply::error(StatusCode::BAD_GATEWAY, "workload_api_failed", &error.to_string()),
    }
}

pub(super) fn validate_x509(admin: &Admin, body: &Value) -> Reply {
    let chain =
        body.get("certificate").and_then(Value::as_str).map(|text| pem::certificates(text.as_bytes()));
    let Some(Ok(chain)) = chain else {
        let message = "expected {\"certificate\": \"PEM of the leaf and its intermediates\"}";
        return Reply::error(StatusCode::BAD_REQUEST, "bad_body", message);
    };
    let snapshot = admin.shared.current.load();
    let leaf = chain.first().and_then(|leaf| CertInfo::parse(leaf).ok()).map(|leaf| certificate(&leaf));
    let body = match verify_peer(&chain, &snapshot.identity.bundles, clock::unix()) {
        Ok(peer) => json!({ "valid": true, "spiffe_id": peer.id, "certificate": leaf }),
        Err(error) => json!({
            "valid": false,
            "code": error.code(),
            "message": error.to_string(),
            "certificate": leaf,
        }),
    };
    Reply::json_indented(StatusCode::OK, &body)
}
