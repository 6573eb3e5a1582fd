//! From a peer's ID to the rules that name it.
//!
//! Owns the lookup: exact IDs by hash, patterns by a tree of segments. Its cost depends on the length
//! of the ID and on how many rules name this peer, never on how many rules there are.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use svidecar_id::SpiffeId;

use crate::pattern::{IdPattern, Segment};

/// By text. The keys come from the policy alone, and a peer only looks up: it cannot fill one place with many keys, so the
/// hash needs no secret, and every run of the program takes the same steps.
type ByText<T> = HashMap<Box<str>, T, FixedState>;

/// The index of one policy. Rules are named by their place in the policy.
#[derive(Debug, Default)]
pub(crate) struct IdIndex {
    any: Vec<usize>,
    exact: ByText<Vec<usize>>,
    trust_domains: ByText<Node>,
}

/// A place in the tree: the patterns that begin with the segments that lead here.
#[derive(Debug, Default)]
struct Node {
    /// Rules whose pattern ends here.
    end: Vec<usize>,
    /// Rules whose pattern goes on with `**`.
    rest: Vec<usize>,
    literal: ByText<Self>,
    /// What follows `*` or a capture.
    one: Option<Box<Self>>,
}

impl IdIndex {
    /// Adds a rule that is about every authenticated peer.
    pub(crate) fn add_any(&mut self, rule: usize) {
        self.any.push(rule);
    }

    /// Adds one pattern of a rule.
    pub(crate) fn add(&mut self, pattern: &IdPattern, rule: usize) {
        let segments = pattern.segments();
        if segments.is_literal() {
            self.exact.entry(pattern.as_str().into()).or_default().push(rule);
            return;
        }
        let mut node = self.trust_domains.entry(pattern.trust_domain_str().into()).or_default();
        for part in segments.parts() {
            node = match part {
                Segment::Literal(text) => node.literal.entry(text.clone()).or_default(),
                Segment::One | Segment::Capture(_) => node.one.get_or_insert_default(),
            };
        }
        if segments.has_rest() { node.rest.push(rule) } else { node.end.push(rule) }
    }

    /// Visits each rule that names `id`, in no order, once for each of its patterns that matches.
    pub(crate) fn visit(&self, id: &SpiffeId, visit: &mut impl FnMut(usize)) {
        self.any.iter().copied().for_each(&mut *visit);
        if let Some(rules) = self.exact.get(id.as_str()) {
            rules.iter().copied().for_each(&mut *visit);
        }
        if self.trust_domains.is_empty() {
            return;
        }
        if let Some(root) = self.trust_domains.get(id.trust_domain_str()) {
            root.visit(id.path().strip_prefix('/'), visit);
        }
    }
}

impl Node {
    /// `path` is what is left of the ID without a leading slash; `None` at its end. The depth is that of
    /// the deepest pattern, which the length of an ID bounds.
    fn visit(&self, path: Option<&str>, visit: &mut impl FnMut(usize)) {
        self.rest.iter().copied().for_each(&mut *visit);
        let Some(path) = path else {
            self.end.iter().copied().for_each(&mut *visit);
            return;
        };
        let (segment, left) = match path.split_once('/') {
            Some((segment, left)) => (segment, Some(left)),
            None => (path, None),
        };
        if let Some(next) = self.literal.get(segment) {
            next.visit(left, visit);
        }
        if let Some(next) = &self.one {
            next.visit(left, visit);
        }
    }
}
