//! The keys of a policy file, and what each may be.
//!
//! Owns how a policy is written; what a document as a whole must not say is in [`misfits`](crate::misfits). It must never
//! accept a word that could be meant in two ways.

use std::{fmt, str::FromStr};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use svidecar_document::{
    check::{Dialect, Empty},
    text::{InvalidValue, format},
    text_value,
};
use svidecar_id::SpiffeId;

use crate::{
    case::RequestLine,
    path::PathPattern,
    pattern::IdPattern,
    rule::{RuleName, check_name},
    target::{HeaderText, HostPattern},
    verdict::{Mode, Verdict},
};

/// Most rules in one policy.
pub const MAX_RULES: usize = 20_000;
/// Most test cases in one policy.
pub const MAX_TESTS: usize = 10_000;
/// Most entries in one list of a rule (`from`, `to`, `methods`, `paths`, `hosts`, `headers`).
pub const MAX_LIST: usize = 1_000;

/// How policies are read. A key without a value is a mistake: without `to`, a rule would match every request.
pub(crate) const DIALECT: Dialect = Dialect {
    formats: &[
        format::<ServiceName>(),
        format::<RuleName>(),
        format::<Source>(),
        format::<Method>(),
        format::<PathPattern>(),
        format::<HostPattern>(),
        format::<HeaderText>(),
        format::<TestPeer>(),
        format::<RequestLine>(),
    ],
    foreign_keys: &[],
    empty: Empty::Mistake,
};

/// A policy file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyFile {
    /// Name the service that the policy protects: `service: orders`.
    pub(crate) service: ServiceName,
    /// What happens when no rule matches.
    #[serde(default = "deny")]
    pub(crate) default: Verdict,
    /// Who may do what.
    #[serde(default)]
    #[schemars(length(max = MAX_RULES))]
    pub(crate) rules: Vec<RuleEntry>,
    /// Requests, and what is expected of each.
    #[serde(default)]
    #[schemars(length(max = MAX_TESTS))]
    pub(crate) tests: Vec<TestEntry>,
}

const fn deny() -> Verdict {
    Verdict::Deny
}

const fn allow() -> Verdict {
    Verdict::Allow
}

const fn enforce() -> Mode {
    Mode::Enforce
}

/// A rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleEntry {
    /// Name the rule: the name appears in every decision that it makes.
    pub(crate) name: RuleName,
    /// What the rule says about requests that match.
    #[serde(default = "allow")]
    pub(crate) action: Verdict,
    /// Whether the rule takes part in decisions.
    #[serde(default = "enforce")]
    pub(crate) mode: Mode,
    /// List the peers that the rule is about, or write `from: any`.
    pub(crate) from: From,
    /// What is asked for: one entry or a list, of which any must match; left out, every request.
    #[serde(default)]
    pub(crate) to: Option<OneOrMany<TargetEntry>>,
    /// A condition. It is known, so that who writes one learns that there is none yet.
    #[serde(default)]
    #[expect(dead_code, reason = "it is refused as the document is written, whatever its value")]
    when: Option<Value>,
}

/// Whom a rule is about.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum From {
    /// Every authenticated peer.
    Any(Any),
    /// One ID or pattern.
    One(Source),
    /// Several.
    Many(#[schemars(length(max = MAX_LIST))] Vec<Source>),
}

/// The word for every authenticated peer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Any {
    /// Every authenticated peer.
    Any,
}

/// One value, or a list of which any must match.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany<T> {
    /// One value.
    One(T),
    /// Several.
    Many(#[schemars(length(max = MAX_LIST))] Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(crate) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(several) => several,
        }
    }
}

/// An entry of `to`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetEntry {
    /// Exactly as in the request.
    #[serde(default)]
    pub(crate) methods: Option<OneOrMany<Method>>,
    /// Patterns; the query is not looked at.
    #[serde(default)]
    pub(crate) paths: Option<OneOrMany<PathPattern>>,
    /// Names without their port; `""` stands for a request that names no host.
    #[serde(default)]
    pub(crate) hosts: Option<OneOrMany<HostPattern>>,
    /// A header's name to its value, or to a list of values.
    #[serde(default)]
    pub(crate) headers: Option<IndexMap<HeaderKey, OneOrMany<HeaderText>>>,
}

/// An entry of `tests`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestEntry {
    /// Write the peer's SPIFFE ID, or `none` for a peer without one.
    pub(crate) peer: TestPeer,
    /// Method and path.
    #[serde(default)]
    pub(crate) request: Option<RequestLine>,
    /// The authority of the request.
    #[serde(default)]
    pub(crate) host: Option<String>,
    /// A header's name to its value.
    #[serde(default)]
    pub(crate) headers: Option<IndexMap<HeaderKey, HeaderText>>,
    /// Write `expect: allow` or `expect: deny`.
    pub(crate) expect: Verdict,
    /// The rule that must decide.
    #[serde(default)]
    pub(crate) rule: Option<String>,
}

/// The name of a service.
#[derive(Debug)]
pub(crate) struct ServiceName(pub(crate) Box<str>);

impl FromStr for ServiceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        check_name(text, "a service").map(|()| Self(text.into()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(ServiceName, "ServiceName", "service-name", ["orders"]);

/// A SPIFFE ID or pattern in `from`.
#[derive(Debug)]
pub(crate) struct Source(pub(crate) IdPattern);

impl FromStr for Source {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        IdPattern::parse(text).map(Self).map_err(|error| match text {
            "any" | "*" | "**" => InvalidValue(format!(
                "`{text}` is not a SPIFFE ID or pattern; for every authenticated peer write `from: any`, alone and \
                 without a list"
            )),
            _ => InvalidValue(format!("`{text}`: {error}")),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_value!(Source, "Source", "policy-source", ["spiffe://demo.org/shop"]);

/// A method.
#[derive(Debug)]
pub(crate) struct Method(pub(crate) Box<str>);

impl FromStr for Method {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if http::Method::from_bytes(text.as_bytes()).is_err() {
            return Err(InvalidValue(format!("`{text}`: a method is a word such as GET")));
        }
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            return Err(InvalidValue(format!(
                "`{text}`: methods are compared exactly, and requests have {}",
                text.to_ascii_uppercase()
            )));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(Method, "Method", "method", ["GET"]);

/// The name of a header, as a key. Two spellings of one name are two keys, and both count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeaderKey {
    written: Box<str>,
    pub(crate) name: http::HeaderName,
}

impl FromStr for HeaderKey {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let name = http::HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| InvalidValue(format!("{text:?} is not the name of a header")))?;
        Ok(Self { written: text.into(), name })
    }
}

impl fmt::Display for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

text_value!(HeaderKey, "HeaderKey", "header-name", ["x-env"]);

/// The peer of a test; none without a SPIFFE ID.
#[derive(Debug)]
pub(crate) struct TestPeer(pub(crate) Option<SpiffeId>);

impl FromStr for TestPeer {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "none" {
            return Ok(Self(None));
        }
        SpiffeId::parse(text)
            .map(|id| Self(Some(id)))
            .map_err(|error| InvalidValue(format!("`{text}` is not a SPIFFE ID: {error}")))
    }
}

impl fmt::Display for TestPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("none", SpiffeId::as_str))
    }
}

text_value!(TestPeer, "TestPeer", "policy-test-peer", ["spiffe://demo.org/shop", "none"]);
