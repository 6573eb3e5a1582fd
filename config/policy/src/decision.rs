//! What a policy answers: the verdict, what brought it about, and which audit rules matched.

use crate::{
    rule::{DEFAULT, Rule, RuleName, UNAUTHENTICATED},
    verdict::Verdict,
};

/// Most audit rules that a decision reports.
pub const MAX_AUDITED: usize = 4;

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

/// The answer to a [`Request`](crate::Request).
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
    #[inline]
    pub(crate) fn add(&mut self, rule: &'p Rule) {
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
