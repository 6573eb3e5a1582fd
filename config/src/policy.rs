//! The policy language: who may do what to one service, decided by pure functions.
//!
//! Owns the meaning of a policy file: parsing with positions, deciding, explaining, testing. Deciding
//! knows no clock, no I/O and, on the common path, no allocation; rules are found by an index over IDs,
//! so that ten thousand of them cost what ten do. It must never match an unauthenticated peer, never
//! match part of a path segment, and never accept a rule that could silently fail to apply.

mod cases;
mod document;
mod explain;
mod facts;
mod index;
mod path;
mod target;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

pub use cases::TestOutcome;
pub use explain::{Explanation, RuleExplanation};
pub use facts::{Headers, Request};

/// What the listener of a policy speaks. A policy for `tcp` cannot ask what only HTTP answers.
pub use crate::proxy::ListenerProtocol as Protocol;

use crate::{diagnostic::Diagnostics, pattern::IdPattern};
use cases::Case;
use index::IdIndex;
use target::Target;

/// Most rules in one policy.
pub const MAX_RULES: usize = 20_000;
/// Most entries in one list of a rule (`from`, `to`, `methods`, `paths`, `hosts`, `headers`).
pub const MAX_LIST: usize = 1_000;
/// Most test cases in one policy.
pub const MAX_TESTS: usize = 10_000;
/// Most audit rules that a decision reports.
pub const MAX_AUDITED: usize = 4;
/// Longest name of a rule or service, in bytes.
pub const MAX_NAME_BYTES: usize = 100;

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

impl Verdict {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Whether a rule takes part in decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It does.
    Enforce,
    /// It is evaluated, logged and counted, but decides nothing.
    Audit,
}

/// The unique name of a rule. Cheap to clone, so that a log line can outlive the policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RuleName(Arc<str>);

impl RuleName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What brought a verdict about.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'p> {
    /// An enforced rule matched.
    Rule(&'p Rule),
    /// No enforced rule matched: the policy's `default` applies.
    Default,
    /// The peer has no verified ID.
    Unauthenticated,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, Copy)]
pub struct Decision<'p> {
    /// Whether the request may pass.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason<'p>,
    /// The audit rules that matched.
    pub audited: Audited<'p>,
}

impl<'p> Decision<'p> {
    /// The name of the rule that decided; `None` for the default and for unauthenticated peers.
    #[must_use]
    pub const fn rule(&self) -> Option<&'p RuleName> {
        match self.deciding_rule() {
            Some(rule) => Some(&rule.name),
            None => None,
        }
    }

    /// The same rule as a whole.
    #[must_use]
    pub const fn deciding_rule(&self) -> Option<&'p Rule> {
        match self.reason {
            Reason::Rule(rule) => Some(rule),
            Reason::Default | Reason::Unauthenticated => None,
        }
    }

    /// The name for logs and metrics: the rule's, or `default`, or `unauthenticated`. No rule has the latter two.
    #[must_use]
    pub fn rule_name(&self) -> &'p str {
        self.rule().map_or(self.fallback_name(), RuleName::as_str)
    }

    /// What [`rule_name`](Self::rule_name) is when no rule decided.
    #[must_use]
    pub const fn fallback_name(&self) -> &'static str {
        match self.reason {
            Reason::Rule(_) | Reason::Default => DEFAULT,
            Reason::Unauthenticated => UNAUTHENTICATED,
        }
    }

    /// Whether the request may pass.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow)
    }
}

const DEFAULT: &str = "default";
const UNAUTHENTICATED: &str = "unauthenticated";

/// The audit rules that a request matched: the first [`MAX_AUDITED`] in no particular order, without allocation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Audited<'p>([Option<&'p Rule>; MAX_AUDITED]);

impl<'p> Audited<'p> {
    /// The rules.
    pub fn iter(&self) -> impl Iterator<Item = &'p Rule> {
        self.0.into_iter().flatten()
    }

    /// Whether no audit rule matched.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// A rule is found once for each of its patterns that matches, and counted once.
    fn add(&mut self, rule: &'p Rule) {
        for slot in &mut self.0 {
            match slot {
                Some(known) if std::ptr::eq(*known, rule) => return,
                Some(_) => {}
                None => {
                    *slot = Some(rule);
                    return;
                }
            }
        }
    }
}

/// Whom a rule is about.
#[derive(Debug)]
enum Sources {
    /// `from: any`: every authenticated peer.
    Any,
    /// Peers that match one of the patterns.
    Patterns(Box<[IdPattern]>),
}

/// One rule of a policy.
#[derive(Debug)]
pub struct Rule {
    name: RuleName,
    action: Verdict,
    mode: Mode,
    from: Sources,
    /// Any of them must match; none means that every request does.
    to: Box<[Target]>,
    line: usize,
    /// The rule's place among the rules of its policy.
    index: usize,
}

impl Rule {
    /// The rule's unique name.
    #[must_use]
    pub const fn name(&self) -> &RuleName {
        &self.name
    }

    /// What the rule says about requests that match.
    #[must_use]
    pub const fn action(&self) -> Verdict {
        self.action
    }

    /// Whether the rule is enforced.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The line of the file at which the rule begins, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The rule's place in [`Policy::rules`]: what to keep of it where a reference cannot be kept.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    fn covers(&self, request: &Request<'_>) -> bool {
        self.to.is_empty() || self.to.iter().any(|target| target.matches(request, self.action))
    }
}

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

impl Policy {
    /// Reads a policy and runs its tests: what a start or a reload accepts. `file` is only named in errors.
    ///
    /// # Errors
    /// All that is wrong with the file, each with line and column; if nothing is, the tests that fail.
    pub fn parse(text: &str, file: &Path, protocol: Protocol) -> Result<Self, Diagnostics> {
        let policy = Self::parse_untested(text, file, protocol)?;
        let failures = policy.run_tests().into_iter().filter(|outcome| !outcome.passed);
        Diagnostics::check(failures.map(|outcome| outcome.into_diagnostic(file)).collect())?;
        Ok(policy)
    }

    /// Reads a policy without running its tests, for those who want to see each outcome.
    ///
    /// # Errors
    /// All that is wrong with the file, each with line and column.
    pub fn parse_untested(text: &str, file: &Path, protocol: Protocol) -> Result<Self, Diagnostics> {
        document::read(text, file, protocol)
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

    /// Decides, and says of every rule whether it matched or which part of it did not.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        explain::explain(self, request)
    }

    /// Runs the policy's own `tests`.
    #[must_use]
    pub fn run_tests(&self) -> Vec<TestOutcome> {
        self.cases.iter().map(|case| case.run(self)).collect()
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
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
