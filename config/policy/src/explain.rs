//! Why a decision is what it is, in words.
//!
//! Owns the sentences of `svidecar policy explain`. It looks at every rule, so it is for people and
//! never for the data path; and it must never come to another verdict than deciding does.

use std::fmt::Display;

use serde::Serialize;

use crate::{
    decision::Reason,
    facts::Request,
    policy::Policy,
    rule::{DEFAULT, Rule, Sources, UNAUTHENTICATED},
    target::{HeaderMatch, Part},
    verdict::{Mode, Verdict},
};

/// A decision with the reasons of all rules.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Whether the request may pass.
    pub verdict: Verdict,
    /// The rule that decided, or `default`, or `unauthenticated`.
    pub rule: String,
    /// Why, as one sentence.
    pub because: String,
    /// Every rule, in the order of the file.
    pub rules: Vec<RuleExplanation>,
}

/// What one rule had to say.
#[derive(Debug, Clone, Serialize)]
pub struct RuleExplanation {
    /// The rule's name.
    pub name: String,
    /// What it says about requests that match.
    pub action: Verdict,
    /// Whether it is enforced.
    pub mode: Mode,
    /// The line at which it begins, from 1.
    pub line: usize,
    /// Whether the request matched.
    pub matched: bool,
    /// What matched, or the first part that did not.
    pub why: String,
}

impl Policy {
    /// Decides, and says of every rule whether it matched or which part of it did not.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        let decision = self.decide(request);
        let because = match decision.reason {
            Reason::Unauthenticated => {
                "the peer has no verified SPIFFE ID, and no rule matches such a peer".to_owned()
            }
            Reason::Default => {
                format!("no enforced rule matches, and the policy's default is {}", self.default_verdict())
            }
            Reason::Rule(rule) if rule.action == Verdict::Deny => {
                format!(
                    "the deny rule {} (line {}) matches, and deny rules win over allow rules",
                    rule.name, rule.line
                )
            }
            Reason::Rule(rule) => {
                format!("the allow rule {} (line {}) matches and no deny rule does", rule.name, rule.line)
            }
        };
        Explanation {
            verdict: decision.verdict,
            rule: decision.rule_name().to_owned(),
            because,
            rules: self.rules().iter().map(|rule| explain_rule(rule, request)).collect(),
        }
    }
}

fn explain_rule(rule: &Rule, request: &Request<'_>) -> RuleExplanation {
    let outcome =
        why_peer(rule, request).and_then(|peer| Ok(format!("{peer}; {}", why_target(rule, request)?)));
    let matched = outcome.is_ok();
    let (Ok(why) | Err(why)) = outcome;
    let name = rule.name.to_string();
    RuleExplanation { name, action: rule.action, mode: rule.mode, line: rule.line, matched, why }
}

/// `Ok`: what in `from` matches. `Err`: why nothing does.
fn why_peer(rule: &Rule, request: &Request<'_>) -> Result<String, String> {
    let Some(peer) = request.peer else {
        return Err("from: an unauthenticated peer matches no rule".to_owned());
    };
    let patterns = match &rule.from {
        Sources::Any => return Ok("from: any authenticated peer".to_owned()),
        Sources::Patterns(patterns) => patterns,
    };
    if let Some(pattern) = patterns.iter().find(|pattern| pattern.matches(peer)) {
        return Ok(format!("from: {peer} matches {pattern}"));
    }
    if patterns.iter().all(|pattern| pattern.trust_domain_str() != peer.trust_domain_str()) {
        return Err(format!(
            "from: {peer} is of the trust domain {}; the rule names {}",
            peer.trust_domain_str(),
            list(patterns)
        ));
    }
    Err(format!("from: {peer} matches none of {}", list(patterns)))
}

/// `Ok`: which entry of `to` matches. `Err`: what each of them lacks.
fn why_target(rule: &Rule, request: &Request<'_>) -> Result<String, String> {
    if rule.to.is_empty() {
        return Ok("to: every request".to_owned());
    }
    let mut reasons = Vec::new();
    for (at, target) in rule.to.iter().enumerate() {
        let Some(part) = target.mismatch(request, rule.action) else {
            return Ok(format!("to: entry {} matches", at + 1));
        };
        let given = |fact: Option<&str>| fact.unwrap_or("(none)").to_owned();
        let reason = match part {
            Part::Method => format!("method {} is not {}", given(request.method), list(&target.methods)),
            Part::Path => format!("path {} matches none of {}", given(request.path), list(&target.paths)),
            Part::Host => format!("host {} matches none of {}", given(request.host), list(&target.hosts)),
            Part::Header(header) => why_header(header, request),
        };
        reasons.push(if rule.to.len() == 1 { reason } else { format!("entry {}: {reason}", at + 1) });
    }
    Err(format!("to: {}", reasons.join("; ")))
}

fn why_header(header: &HeaderMatch, request: &Request<'_>) -> String {
    let mut count = 0_usize;
    if let Some(headers) = request.headers {
        headers.visit(header.name.as_str(), &mut |_, _| count += 1);
    }
    match count {
        0 => format!("header {} is missing", header.name),
        1 => format!("header {} is not {}", header.name, list(&header.values)),
        _ => {
            format!("header {} is given {count} times and not only as {}", header.name, list(&header.values))
        }
    }
}

/// At most five items, so that a sentence stays a sentence.
fn list(items: &[impl Display]) -> String {
    const SHOWN: usize = 5;
    let mut text = items.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        text.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    text
}

impl Explanation {
    /// Whether a rule, and not the default, decided.
    #[must_use]
    pub fn decided_by_rule(&self) -> bool {
        self.rule != DEFAULT && self.rule != UNAUTHENTICATED
    }
}
