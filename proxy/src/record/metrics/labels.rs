//! The labels of the series, and how a series is found without copying them.

use std::fmt;

use indexmap::Equivalent;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use svidecar_config::policy::RuleName;

use crate::record::{Direction, Record};

/// What rule and trust domain are when there are too many of them.
const OTHER: &str = "other";

/// The labels of a request or connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    direction: Direction,
    listener: Box<str>,
    service: Box<str>,
    rule: Box<str>,
    peer_trust_domain: Box<str>,
    status: &'static str,
    code: &'static str,
}

/// The same labels, borrowed from a record. Must hash like [`Labels`]: the same fields in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LabelsRef<'r> {
    direction: Direction,
    listener: &'r str,
    service: &'r str,
    rule: &'r str,
    peer_trust_domain: &'r str,
    status: &'static str,
    code: &'static str,
}

/// What a worker's cache is asked for. Must hash like `(bool, Labels)`.
#[derive(Hash)]
pub(super) struct Key<'r>(pub(super) bool, pub(super) LabelsRef<'r>);

impl Equivalent<(bool, Labels)> for Key<'_> {
    fn equivalent(&self, (is_http, labels): &(bool, Labels)) -> bool {
        self.0 == *is_http && self.1 == labels.borrowed()
    }
}

impl<'r> LabelsRef<'r> {
    pub(super) fn of(record: &Record<'r>) -> Self {
        Self {
            direction: record.direction,
            listener: record.listener,
            service: record.service,
            rule: record.decided.map_or("", |decided| decided.rule()),
            peer_trust_domain: record.peer.map_or("", |peer| peer.trust_domain_str()),
            status: record.http.map_or("", |http| class(http.status)),
            code: record.code.unwrap_or_default(),
        }
    }

    pub(super) fn to_owned(self) -> Labels {
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

    pub(super) fn listener_labels(&self) -> ListenerLabels {
        ListenerLabels { direction: self.direction, listener: self.listener.clone() }
    }
}

/// `2xx` and so on; `none` when the client got no response.
fn class(status: Option<http::StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        Some(_) | None => "none",
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        encode_all(
            encoder,
            &[
                ("direction", self.direction.as_str()),
                ("listener", &self.listener),
                ("service", &self.service),
                ("rule", &self.rule),
                ("peer_trust_domain", &self.peer_trust_domain),
                ("status", self.status),
                ("code", self.code),
            ],
        )
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
}

impl EncodeLabelSet for ListenerLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        encode_all(encoder, &[("direction", self.direction.as_str()), ("listener", &self.listener)])
    }
}

/// The labels of the matches of an audited rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AuditLabels {
    service: Box<str>,
    rule: RuleName,
}

impl AuditLabels {
    pub(super) fn new(service: &str, rule: &RuleName) -> Self {
        Self { service: service.into(), rule: rule.clone() }
    }
}

impl EncodeLabelSet for AuditLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        encode_all(encoder, &[("service", &self.service), ("rule", self.rule.as_str())])
    }
}

fn encode_all(encoder: &mut LabelSetEncoder<'_>, labels: &[(&str, &str)]) -> fmt::Result {
    labels.iter().try_for_each(|label| label.encode(encoder.encode_label()))
}
