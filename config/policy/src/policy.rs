//! A policy: rules with an index over IDs, and the one function that decides.
//!
//! Deciding knows no clock, no I/O and, on the common path, no allocation. It must never match an unauthenticated peer.

use std::sync::Arc;

use crate::{
    case::Case,
    decision::{Audited, Decision, Reason},
    facts::{Protocol, Request},
    index::IdIndex,
    rule::{Rule, Sources},
    verdict::{Mode, Verdict},
};

/// A policy: the rules of one service, ready to decide.
#[derive(Debug)]
pub struct Policy {
    service: Arc<str>,
    protocol: Protocol,
    default: Verdict,
    rules: Box<[Rule]>,
    index: IdIndex,
    reads_headers: bool,
    cases: Box<[Case]>,
}

/// The parts of a policy, as its file has them.
pub(crate) struct Parts {
    pub(crate) service: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) default: Verdict,
    pub(crate) rules: Box<[Rule]>,
    pub(crate) cases: Box<[Case]>,
}

impl Policy {
    /// Indexes the rules.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { service, protocol, default, rules, cases } = parts;
        let mut index = IdIndex::default();
        for (at, rule) in rules.iter().enumerate() {
            match &rule.from {
                Sources::Any => index.add_any(at),
                Sources::Patterns(patterns) => patterns.iter().for_each(|pattern| index.add(pattern, at)),
            }
        }
        let reads_headers = rules.iter().flat_map(|rule| &rule.to).any(|target| !target.headers.is_empty());
        Self { service, protocol, default, rules, index, reads_headers, cases }
    }

    /// Decides. Deny rules win over allow rules; among equals the first of the file is named.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision<'_> {
        let Some(peer) = request.peer else {
            let audited = Audited::default();
            return Decision { verdict: Verdict::Deny, reason: Reason::Unauthenticated, audited };
        };
        let (mut deny, mut allow) = (usize::MAX, usize::MAX);
        let mut audited = Audited::default();
        self.index.visit(peer, &mut |at| {
            let Some(rule) = self.rules.get(at) else { return };
            match (rule.mode, rule.action) {
                (Mode::Audit, _) if rule.covers(request) => audited.add(rule),
                (Mode::Enforce, Verdict::Deny) if at < deny && rule.covers(request) => deny = at,
                // Once a deny rule is found no allow rule matters.
                (Mode::Enforce, Verdict::Allow)
                    if deny == usize::MAX && at < allow && rule.covers(request) =>
                {
                    allow = at;
                }
                _ => {}
            }
        });
        let (verdict, reason) = match (self.rules.get(deny), self.rules.get(allow)) {
            (Some(rule), _) => (Verdict::Deny, Reason::Rule(rule)),
            (None, Some(rule)) => (Verdict::Allow, Reason::Rule(rule)),
            (None, None) => (self.default, Reason::Default),
        };
        Decision { verdict, reason, audited }
    }

    /// The name of the service, for logs and metrics.
    #[must_use]
    pub const fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// What the listener of this policy speaks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What happens when no rule matches.
    #[must_use]
    pub const fn default_verdict(&self) -> Verdict {
        self.default
    }

    /// Whether a decision can depend on headers. If not, they need not be kept for deciding again.
    #[must_use]
    pub const fn reads_headers(&self) -> bool {
        self.reads_headers
    }

    /// The rules, in the order of the file.
    #[must_use]
    pub const fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The tests that the policy brings along.
    pub(crate) const fn cases(&self) -> &[Case] {
        &self.cases
    }
}
