//! The policy's own tests.
//!
//! Owns what one entry of `tests` means: it runs through the same normalization and the same decision
//! as a request on the wire.

use std::path::Path;

use serde::Serialize;
use svidecar_document::diagnostic::Diagnostic;

use crate::{
    case::{Case, RequestLine},
    facts::Request,
    normalize::normalize_path,
    policy::Policy,
    verdict::Verdict,
};

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
    pub(crate) fn into_diagnostic(self, file: &Path) -> Diagnostic {
        Diagnostic::new(format!("test failed: {}: {}", self.name, self.message)).at(file, self.line, self.column).help(
            "correct the rule or the test; `svidecar policy explain` shows what each rule says about the request",
        )
    }
}

impl Policy {
    /// Runs the policy's own `tests`.
    #[must_use]
    pub fn run_tests(&self) -> Vec<TestOutcome> {
        self.cases().iter().map(|case| run(case, self)).collect()
    }
}

fn run(case: &Case, policy: &Policy) -> TestOutcome {
    let (verdict, rule) = decide(case, policy);
    let expected_rule = case.rule.as_deref().is_none_or(|wanted| wanted == rule);
    let passed = verdict == case.expect && expected_rule;
    let by = case.rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
    let message = format!("expected {}{by}, got {verdict} by {rule}", case.expect);
    TestOutcome { line: case.position.line, column: case.position.column, name: case.name(), passed, message }
}

/// The verdict and what decided. A path that normalization refuses is denied before any rule.
fn decide(case: &Case, policy: &Policy) -> (Verdict, String) {
    let path = match case.request.as_ref().map(|request| normalize_path(request.path())) {
        Some(Err(rejection)) => return (Verdict::Deny, format!("normalization ({rejection})")),
        Some(Ok(path)) => Some(path),
        None => None,
    };
    let decision = policy.decide(&Request {
        peer: case.peer.as_ref(),
        method: case.request.as_ref().map(RequestLine::method),
        path: path.as_deref(),
        host: case.host.as_deref(),
        headers: case.request.as_ref().map(|_| &case.headers as _),
    });
    (decision.verdict, decision.rule_name().to_owned())
}
