//! Decisions: the policy's pure function, asked with a connection's facts.
//!
//! No I/O, no clock. What was asked is kept among the [`Flights`](super::flights::Flights) of its connection, so that it
//! can be asked again when the policy changes.

use svidecar_code::Code;
use svidecar_id::SpiffeId;
use svidecar_policy::{Decision, Headers, Policy, Request, reads_alike};

use crate::message::{Fields, Summary, refusal::Refusal};

impl Headers for Fields {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(bool, &[u8])) {
        let name = name.as_bytes();
        let alike = self.iter().filter(|(other, _)| reads_alike(other, name));
        alike.for_each(|(other, value)| visit(other.eq_ignore_ascii_case(name), value));
    }
}

/// Decides about one request whose target is [normalized](super::normalize).
#[must_use]
pub fn ask<'p>(
    policy: &'p Policy,
    peer: Option<&SpiffeId>,
    summary: &Summary,
    fields: Option<&Fields>,
) -> Decision<'p> {
    policy.decide(&Request {
        peer,
        method: Some(summary.method()),
        path: Some(summary.path()),
        host: summary.host(),
        headers: fields.map(|fields| fields as _),
    })
}

/// Decides about a TCP connection.
#[must_use]
pub fn connection<'p>(policy: &'p Policy, peer: Option<&SpiffeId>) -> Decision<'p> {
    policy.decide(&Request { peer, ..Request::default() })
}

/// Makes a decision the end of what it denies.
///
/// # Errors
/// The refusal, with the rule in words for the operator.
pub fn permit(decision: &Decision<'_>) -> Result<(), Refusal> {
    if decision.is_allowed() {
        return Ok(());
    }
    let detail = format!("`{}` denies it", decision.rule_name());
    Err(Refusal::new(Code::DeniedByRule, detail))
}

#[cfg(test)]
mod tests {
    use svidecar_policy::Protocol;

    use super::*;
    use crate::message::RequestHead;

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://demo.org{path}")).unwrap()
    }

    fn outcome(decision: &Decision<'_>) -> Result<(), (Code, String)> {
        permit(decision).map_err(|refusal| (refusal.code, refusal.detail))
    }

    fn denied_by<T>(rule: &str) -> Result<T, (Code, String)> {
        Err((Code::DeniedByRule, format!("`{rule}` denies it")))
    }

    #[test]
    fn requests_are_decided_by_all_that_their_heads_say() {
        let policy = "
            service: s
            rules:
              - {name: shop, from: [spiffe://demo.org/shop], to: [{methods: [GET], paths: [/a], hosts: [demo], headers: {x-env: prod}}]}
              - {name: no-b, action: deny, from: any, to: [{paths: [/b]}]}
        ";
        let policy = Policy::parse(policy, "p.yaml".as_ref(), Protocol::Http).unwrap();
        for (peer, method, target, host, env, expected) in [
            (Some("/shop"), "GET", "/a?x", "demo", "prod", Ok(())),
            (Some("/shop"), "PUT", "/a", "demo", "prod", denied_by("default")),
            (Some("/shop"), "GET", "/ab", "demo", "prod", denied_by("default")),
            (Some("/shop"), "GET", "/a", "other", "prod", denied_by("default")),
            (Some("/shop"), "GET", "/a", "demo", "dev", denied_by("default")),
            (Some("/shop"), "GET", "/b", "demo", "prod", denied_by("no-b")),
            (Some("/other"), "GET", "/a", "demo", "prod", denied_by("default")),
            (None, "GET", "/a", "demo", "prod", denied_by("unauthenticated")),
        ] {
            let fields = [("Host", host), ("X-Env", env)].into_iter().collect();
            let (method, target) = (method.into(), target.into());
            let head = RequestHead { method, target, fields, ..RequestHead::default() };
            let mut summary = Summary::default();
            summary.set(&head);
            let peer = peer.map(id);
            let decision = ask(&policy, peer.as_ref(), &summary, Some(&head.fields));
            assert_eq!(outcome(&decision), expected, "{peer:?} {head:?}");
        }
    }

    #[test]
    fn connections_are_decided_by_their_peer() {
        let policy = "service: s\nrules: [{name: shop, from: [spiffe://demo.org/shop]}]";
        let policy = Policy::parse(policy, "p.yaml".as_ref(), Protocol::Tcp).unwrap();
        for (peer, expected) in [
            (Some("/shop"), Ok(())),
            (Some("/other"), denied_by("default")),
            (None, denied_by("unauthenticated")),
        ] {
            let decision = connection(&policy, peer.map(id).as_ref());
            assert_eq!(outcome(&decision), expected, "{peer:?}");
        }
    }
}
