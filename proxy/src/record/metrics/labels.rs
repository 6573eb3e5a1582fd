//! The labels of the series, and how a series is found without copying them.

use indexmap::Equivalent;
use svidecar_code::Code;
use svidecar_policy::RuleName;

use crate::record::{Direction, Record};

/// What rule and trust domain are when there are too many of them.
const OTHER: &str = "other";

/// A label and its value.
pub(super) type Pair<'l> = (&'static str, &'l str);

/// The labels of a request or connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    direction: Direction,
    listener: Box<str>,
    service: Box<str>,
    rule: Box<str>,
    peer_trust_domain: Box<str>,
    status: &'static str,
    code: Option<Code>,
}

/// The same labels, borrowed from a record. Must hash like [`Labels`]: the same fields in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LabelsRef<'r> {
    direction: Direction,
    listener: &'r str,
    service: &'r str,
    rule: &'r str,
    peer_trust_domain: &'r str,
    status: &'static str,
    code: Option<Code>,
}

/// What a worker looks for. Must hash like `(bool, Labels)`.
#[derive(Hash)]
pub(super) struct Key<'r>(bool, LabelsRef<'r>);

impl<'r> Key<'r> {
    pub(super) fn of(record: &Record<'r>) -> Self {
        Self(record.http.is_some(), LabelsRef::of(record))
    }

    /// Whether these are the labels.
    pub(super) fn is(&self, (is_http, labels): &(bool, Labels)) -> bool {
        self.0 == *is_http && self.1 == labels.borrowed()
    }

    /// A number that is the same for equal labels, and mostly another one for others; made faster than a hash.
    pub(super) fn rough(&self) -> usize {
        let Self(_, labels) = self;
        let status = labels.status.bytes().next().map_or(0, usize::from);
        let start = labels.code.map_or(status, |code| status.wrapping_mul(7).wrapping_add(code as usize));
        let lengths = [labels.listener, labels.rule, labels.peer_trust_domain];
        lengths.iter().fold(start, |all, text| all.wrapping_mul(7).wrapping_add(text.len()))
    }

    pub(super) fn to_labels(&self) -> (bool, Labels) {
        (self.0, self.1.to_owned())
    }
}

impl Equivalent<(bool, Labels)> for Key<'_> {
    fn equivalent(&self, labels: &(bool, Labels)) -> bool {
        self.is(labels)
    }
}

impl<'r> LabelsRef<'r> {
    fn of(record: &Record<'r>) -> Self {
        Self {
            direction: record.direction,
            listener: record.listener,
            service: record.service,
            rule: record.decided.map_or("", |decided| decided.rule),
            peer_trust_domain: record.peer.map_or("", |peer| peer.trust_domain_str()),
            status: record.http.map_or("", |http| class(http.status)),
            code: record.code,
        }
    }

    fn to_owned(self) -> Labels {
        Labels {
            direction: self.direction,
            listener: self.listener.into(),
            service: self.service.into(),
            rule: self.rule.into(),
            peer_trust_domain: self.peer_trust_domain.into(),
            status: self.status,
            code: self.code,
        }
    }
}

impl Labels {
    fn borrowed(&self) -> LabelsRef<'_> {
        LabelsRef {
            direction: self.direction,
            listener: &self.listener,
            service: &self.service,
            rule: &self.rule,
            peer_trust_domain: &self.peer_trust_domain,
            status: self.status,
            code: self.code,
        }
    }

    /// Gives up what could have many values.
    pub(super) fn collapse(&mut self) {
        self.rule = OTHER.into();
        self.peer_trust_domain = OTHER.into();
    }

    pub(super) fn pairs(&self) -> [Pair<'_>; 7] {
        [
            ("direction", self.direction.as_str()),
            ("listener", &self.listener),
            ("service", &self.service),
            ("rule", &self.rule),
            ("peer_trust_domain", &self.peer_trust_domain),
            ("status", self.status),
            ("code", self.code.map_or("", Code::name)),
        ]
    }

    pub(super) fn listener_labels(&self) -> ListenerLabels {
        ListenerLabels { direction: self.direction, listener: self.listener.clone() }
    }
}

/// `2xx` and so on; `none` when the client got no response.
fn class(status: Option<u16>) -> &'static str {
    match status.map(|status| status / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        Some(_) | None => "none",
    }
}

/// The labels of what is counted per listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::record) struct ListenerLabels {
    direction: Direction,
    listener: Box<str>,
}

impl ListenerLabels {
    pub(super) fn new(direction: Direction, listener: &str) -> Self {
        Self { direction, listener: listener.into() }
    }

    pub(super) fn pairs(&self) -> [Pair<'_>; 2] {
        [("direction", self.direction.as_str()), ("listener", &self.listener)]
    }
}

/// The labels of the matches of an audited rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AuditLabels {
    service: Box<str>,
    rule: RuleName,
}

/// The same labels, borrowed. Must hash like [`AuditLabels`].
#[derive(Clone, Copy, Hash)]
pub(super) struct AuditKey<'r> {
    pub(super) service: &'r str,
    pub(super) rule: &'r RuleName,
}

impl AuditKey<'_> {
    pub(super) fn to_labels(self) -> AuditLabels {
        AuditLabels { service: self.service.into(), rule: self.rule.clone() }
    }
}

impl Equivalent<AuditLabels> for AuditKey<'_> {
    fn equivalent(&self, labels: &AuditLabels) -> bool {
        self.service == &*labels.service && self.rule == &labels.rule
    }
}

impl AuditLabels {
    pub(super) fn pairs(&self) -> [Pair<'_>; 2] {
        [("service", &self.service), ("rule", self.rule.as_str())]
    }
}
