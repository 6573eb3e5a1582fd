//! The policy language: who may do what to one service, decided by pure functions.
//!
//! Owns the meaning of a policy file: parsing with positions, deciding, explaining, testing. Deciding
//! knows no clock, no I/O and, on the common path, no allocation; rules are found by an index over IDs,
//! so that ten thousand of them cost what ten do. It must never match an unauthenticated peer, never
//! match part of a path segment, and never accept a rule that could silently fail to apply.

mod case;
mod compile;
mod decision;
mod document;
mod explain;
mod facts;
mod index;
mod misfits;
pub mod normalize;
mod path;
pub mod pattern;
mod policy;
mod rule;
mod target;
mod testing;
#[cfg(test)]
mod tests;
mod verdict;

pub use self::{
    decision::{Audited, Decision, MAX_AUDITED, Reason},
    document::{MAX_LIST, MAX_RULES, MAX_TESTS},
    explain::{Explanation, RuleExplanation},
    facts::{Headers, Protocol, Request, reads_alike},
    policy::Policy,
    rule::{MAX_NAME_BYTES, Rule, RuleName},
    testing::TestOutcome,
    verdict::{Mode, Verdict},
};
