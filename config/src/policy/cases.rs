//! The policy's own tests.
//!
//! Owns what one entry of `tests` means: it runs through the same normalization and the same decision
//! as a request on the wire.

use std::path::Path;

use serde::Serialize;
use svidecar_id::SpiffeId;

use super::{Policy, Request, Verdict};
use crate::{diagnostic::Diagnostic, normalize::normalize_path};

/// One entry of `tests`.
#[derive(Debug)]
pub(super) struct Case {
    /// `None` is a peer without a verified ID.
    pub(super) peer: Option<SpiffeId>,
    /// Method and path with query; `None` on TCP.
    pub(super) request: Option<(Box<str>, Box<str>)>,
    pub(super) host: Option<Box<str>>,
    pub(super) headers: http::HeaderMap,
    pub(super) expect: Verdict,
    /// The rule that must decide, or `default`.
    pub(super) rule: Option<Box<str>>,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// How one test of a policy went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestOutcome {
    /// Line of the test, from 1.
    pub line: usize,
    /// Column of the test, from 1.
    pub column: usize,
    /// The test in words: peer and request.
    pub name: String,
    /// Whether the decision was the expected one.
    pub passed: bool,
    /// What was decided, by which rule, and what was expected.
    pub message: String,
}

impl TestOutcome {
    /// A failed test as a problem of the file.
    #[must_use]
    pub(super) fn into_diagnostic(self, file: &Path) -> Diagnostic {
        Diagnostic::new(format!("test failed: {}: {}", self.name, self.message)).at(file, self.line, self.column).help(
            "correct the rule or the test; `svidecar policy explain` shows what each rule says about the request",
        )
    }
}

impl Case {
    pub(super) fn run(&self, policy: &Policy) -> TestOutcome {
        let (verdict, rule) = self.decide(policy);
        let expected_rule = self.rule.as_deref().is_none_or(|wanted| wanted == rule);
        let passed = verdict == self.expect && expected_rule;
        let by = self.rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
        let message = format!("expected {}{by}, got {verdict} by {rule}", self.expect);
        TestOutcome { line: self.line, column: self.column, name: self.name(), passed, message }
    }

    /// The verdict and what decided. A path that normalization refuses is denied before any rule.
    fn decide(&self, policy: &Policy) -> (Verdict, String) {
        let path = match self.request.as_ref().map(|(_, target)| normalize_path(without_query(target))) {
            Some(Err(rejection)) => return (Verdict::Deny, format!("normalization ({rejection})")),
            Some(Ok(path)) => Some(path),
            None => None,
        };
        let decision = policy.decide(&Request {
            peer: self.peer.as_ref(),
            method: self.request.as_ref().map(|(method, _)| &**method),
            path: path.as_deref(),
            host: self.host.as_deref(),
            headers: self.request.as_ref().map(|_| &self.headers as _),
        });
        (decision.verdict, decision.rule_name().to_owned())
    }

    fn name(&self) -> String {
        let peer = self.peer.as_ref().map_or("an unauthenticated peer", SpiffeId::as_str);
        match &self.request {
            Some((method, target)) => format!("{peer} {method} {target}"),
            None => peer.to_owned(),
        }
    }
}

fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}
