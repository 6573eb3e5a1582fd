//! The proxy's own state: readiness, settings, certificates, policies. Shows no key and no token.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use svidecar_authority::{time::rfc3339, x509::inspect::CertInfo};
use svidecar_process::{clock, http::Reply, metrics::Page};
use svidecar_workload::IdentityState;

use super::view::Admin;
use crate::{
    control::ready::Readiness,
    runtime::{drain::Direction, shared::Shared},
};

/// What a worker has to answer a probe: less than the second that probes usually wait.
const PULSE: Duration = Duration::from_millis(500);

pub(super) fn index() -> Reply {
    let pages = "svidecar admin\n\n\
        /live                                the process runs\n\
        /ready                               identity, bundle, policy, workers: each with its reason\n\
        /metrics                             for Prometheus\n\
        /config                              the settings in force\n\
        /certs                               our SVIDs and the bundles we trust\n\
        /policy                              the policies in force\n\
        /spiffe/status                       how it stands with the Workload API\n\
        /spiffe/workload                     this process and its identities\n\
        /spiffe/svid/x509                    the X.509-SVID, without its key\n\
        /spiffe/svid/x509/chain              the same as PEM\n\
        /spiffe/.well-known/spiffe-bundle    our trust domain's bundle document\n\
        /spiffe/trust-bundle                 all bundles as PEM\n\
        POST /spiffe/validate/jwt            {\"token\": T, \"audience\": A}\n\
        POST /spiffe/validate/x509           {\"certificate\": PEM chain}\n";
    Reply::text(StatusCode::OK, pages)
}

pub(super) async fn ready(admin: &Admin) -> Reply {
    let silent = admin.workers.silent(PULSE).await;
    let readiness = Readiness::of(&admin.shared, clock::unix()).with_workers(admin.workers.count(), &silent);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::json_indented(status, &readiness)
}

/// Gauges of the proxy's state are brought up to date when somebody looks, so that nothing runs while nobody does.
pub(super) fn metrics(shared: &Shared) -> Reply {
    let snapshot = shared.current.load();
    let identity = &snapshot.identity;
    let state = shared.telemetry.state();
    let end = identity.svid.as_ref().map_or(0, |svid| svid.leaf.not_after.as_secs());
    state.set_svid_not_after(end);
    let inbound = snapshot.plan.inbound.iter();
    let inbound = inbound.map(|listener| (Direction::Inbound, &*listener.name, listener.app.open.count()));
    let outbound = snapshot.plan.outbound.iter();
    let outbound =
        outbound.map(|listener| (Direction::Outbound, &*listener.name, listener.upstream.open.count()));
    state.set_upstreams(inbound.chain(outbound));
    state.workload_api_connected.set(u8::from(identity.status.state == IdentityState::Current));
    state.ready.set(u8::from(Readiness::of(shared, clock::unix()).ready));
    let bundles = identity.bundles.iter();
    state.set_bundles(bundles.map(|bundle| (bundle.trust_domain.clone(), bundle.x509_authorities.len())));
    Reply::of_type(Page::CONTENT_TYPE, shared.telemetry.render())
}

pub(super) fn config(shared: &Shared) -> Reply {
    let snapshot = shared.current.load();
    let reload = shared.reload.borrow().clone();
    Reply::json_indented(
        StatusCode::OK,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": reload.generation,
            "in_force_since": since(reload.since),
            "last_error": reload.error,
            "connections": {
                "inbound": shared.drain.live(Direction::Inbound),
                "outbound": shared.drain.live(Direction::Outbound),
            },
            "settings": snapshot.plan.settings,
        }),
    )
}

pub(super) fn certs(shared: &Shared) -> Reply {
    let snapshot = shared.current.load();
    let now = clock::unix();
    let identity = &snapshot.identity;
    let svids: Vec<Value> = identity
        .all
        .iter()
        .map(|svid| {
            let used =
                identity.svid.as_ref().is_some_and(|used| used.id == svid.id && used.hint == svid.hint);
            json!({
                "spiffe_id": svid.id,
                "hint": svid.hint,
                "in_use": used,
                "seconds_left": svid.seconds_left(now),
                "certificate": certificate(&svid.leaf),
            })
        })
        .collect();
    let bundles: Vec<Value> = identity
        .bundles
        .iter()
        .map(|bundle| {
            let roots: Vec<Value> = bundle
                .x509_authorities
                .iter()
                .filter_map(|der| CertInfo::parse(der).ok())
                .map(|root| certificate(&root))
                .collect();
            json!({ "trust_domain": bundle.trust_domain, "authorities": roots })
        })
        .collect();
    let body = json!({
        "svids": svids,
        "bundles": bundles,
        "bundles_since": rfc3339(identity.bundles_since),
    });
    Reply::json_indented(StatusCode::OK, &body)
}

pub(super) fn policy(shared: &Shared) -> Reply {
    let snapshot = shared.current.load();
    let policies: Vec<Value> = snapshot
        .plan
        .inbound
        .iter()
        .map(|listener| {
            let policy = &listener.policy;
            let rules: Vec<Value> = policy
                .rules()
                .iter()
                .map(|rule| {
                    json!({
                        "name": rule.name(),
                        "action": rule.action(),
                        "mode": rule.mode(),
                        "line": rule.line(),
                    })
                })
                .collect();
            json!({
                "listener": &*listener.name,
                "file": listener.settings.policy,
                "service": &**policy.service(),
                "default": policy.default_verdict(),
                "rules": rules,
            })
        })
        .collect();
    Reply::json_indented(StatusCode::OK, &policies)
}

/// What a certificate says, in the fields that people look for.
pub(super) fn certificate(info: &CertInfo) -> Value {
    json!({
        "subject": info.subject,
        "issuer": info.issuer,
        "spiffe_id": info.spiffe_id,
        "dns_names": info.dns_names,
        "serial_number": info.serial,
        "not_before": rfc3339(info.not_before),
        "not_after": rfc3339(info.not_after),
        "sha256": info.sha256_hex(),
        "subject_key_id": info.subject_key_id,
        "authority_key_id": info.authority_key_id,
    })
}

fn since(seconds: u64) -> String {
    rfc3339(svidecar_authority::time::from_secs(seconds))
}
