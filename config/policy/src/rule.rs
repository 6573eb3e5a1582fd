//! One rule of a policy: whom it is about, what it covers, and what it says.
//!
//! Owns the words of a rule. It must never decide by itself: what a rule that matches means, the policy says.

use std::{fmt, str::FromStr, sync::Arc};

use svidecar_document::{text::InvalidValue, text_value};

use crate::{
    facts::Request,
    pattern::IdPattern,
    target::Target,
    verdict::{Mode, Verdict},
};

/// Longest name of a rule or service, in bytes.
pub const MAX_NAME_BYTES: usize = 100;

/// What is named where no rule decided; so no rule has these names.
pub(crate) const DEFAULT: &str = "default";
pub(crate) const UNAUTHENTICATED: &str = "unauthenticated";

/// The unique name of a rule. Cheap to clone, so that a log line can outlive the policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl FromStr for RuleName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if matches!(text, DEFAULT | UNAUTHENTICATED) {
            return Err(InvalidValue(format!(
                "no rule can be named `{text}`: decisions without a rule have that name"
            )));
        }
        check_name(text, "a rule")?;
        Ok(Self(text.into()))
    }
}

text_value!(RuleName, "RuleName", "rule-name", ["shop-may-order"]);

/// The name of `what`, a service or a rule: it is a label of metrics.
pub(crate) fn check_name(name: &str, what: &str) -> Result<(), InvalidValue> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
        return Err(InvalidValue(format!(
            "the name of {what} has 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` and `.`, not {name:?}"
        )));
    }
    Ok(())
}

/// Whom a rule is about.
#[derive(Debug)]
pub(crate) enum Sources {
    /// `from: any`: every authenticated peer.
    Any,
    /// Peers that match one of the patterns.
    Patterns(Box<[IdPattern]>),
}

/// One rule of a policy.
#[derive(Debug)]
pub struct Rule {
    pub(crate) name: RuleName,
    pub(crate) action: Verdict,
    pub(crate) mode: Mode,
    pub(crate) from: Sources,
    /// Any of them must match; none means that every request does.
    pub(crate) to: Box<[Target]>,
    pub(crate) line: usize,
    /// The rule's place among the rules of its policy.
    pub(crate) index: usize,
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

    /// The rule's place in [`Policy::rules`](crate::Policy::rules): what to keep of it where a reference cannot be kept.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    #[inline]
    pub(crate) fn covers(&self, request: &Request<'_>) -> bool {
        self.to.is_empty() || self.to.iter().any(|target| target.matches(request, self.action))
    }
}
