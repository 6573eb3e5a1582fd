//! From the text of a policy file to a [`Policy`].
//!
//! Owns the way from what is written to what decides. It must never drop a part of a rule: what cannot apply has been
//! refused by [`misfits`](crate::misfits) or by the types of [`document`](crate::document).

use std::path::Path;

use indexmap::IndexMap;
use svidecar_document::{
    diagnostic::Diagnostics,
    document::{Document, Kind, Layout},
    node::Position,
};

use crate::{
    case::Case,
    document::{DIALECT, From, HeaderKey, OneOrMany, PolicyFile, RuleEntry, TargetEntry, TestEntry},
    facts::Protocol,
    misfits::misfits,
    policy::{Parts, Policy},
    rule::{Rule, Sources},
    target::{HeaderMatch, HeaderText, Target},
};

static POLICY: Kind<PolicyFile> = Kind::new(DIALECT);

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
        let Document { value, layout } = POLICY.read(text, file, |root| misfits(root, protocol))?;
        let PolicyFile { service, default, rules, tests } = value;
        let rules = compiled(rules, &layout);
        let tests = tests.into_iter().zip(layout.items("tests"));
        let cases = tests.map(|(entry, position)| case(entry, position)).collect();
        Ok(Self::new(Parts { service: service.0.into(), protocol, default, rules, cases }))
    }
}

fn compiled(entries: Vec<RuleEntry>, layout: &Layout) -> Box<[Rule]> {
    let entries = entries.into_iter().zip(layout.items("rules")).enumerate();
    let rules = entries.map(|(index, (entry, position))| {
        let RuleEntry { name, action, mode, from, to, .. } = entry;
        let from = match from {
            From::Any(_) => Sources::Any,
            From::One(one) => Sources::Patterns([one.0].into()),
            From::Many(several) => Sources::Patterns(several.into_iter().map(|source| source.0).collect()),
        };
        let to = to.map(OneOrMany::into_vec).unwrap_or_default().into_iter().map(target).collect();
        Rule { name, action, mode, from, to, line: position.line, index }
    });
    rules.collect()
}

fn target(entry: TargetEntry) -> Target {
    let TargetEntry { methods, paths, hosts, headers } = entry;
    let methods = methods.map(OneOrMany::into_vec).unwrap_or_default();
    let headers = headers.unwrap_or_default().into_iter();
    Target {
        methods: methods.into_iter().map(|method| method.0).collect(),
        paths: paths.map(OneOrMany::into_vec).unwrap_or_default().into(),
        hosts: hosts.map(OneOrMany::into_vec).unwrap_or_default().into(),
        headers: headers
            .map(|(key, values)| HeaderMatch { name: key.name, values: values.into_vec().into() })
            .collect(),
    }
}

fn case(entry: TestEntry, position: Position) -> Case {
    let TestEntry { peer, request, host, headers, expect, rule } = entry;
    let headers = header_map(headers.unwrap_or_default());
    Case { peer: peer.0, request, host, headers, expect, rule, position }
}

fn header_map(headers: IndexMap<HeaderKey, HeaderText>) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    for (key, value) in headers {
        map.append(key.name, value.0);
    }
    map
}
