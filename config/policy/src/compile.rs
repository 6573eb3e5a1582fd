//! From the text of a policy file to a [`Policy`].
//!
//! Owns what no single value can say: rules and tests as they fit together and to the protocol of the listener. It must
//! never guess: a rule that would not do what it seems to say is an error.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use indexmap::IndexMap;
use svidecar_document::{
    diagnostic::Diagnostics,
    document::{Document, Layout, read},
    problems::Problems,
};

use crate::{
    case::Case,
    document::{DIALECT, From, MAX_LIST, OneOrMany, PolicyFile, RuleEntry, TargetEntry, TestEntry},
    facts::Protocol,
    policy::{Parts, Policy},
    rule::{DEFAULT, Rule, RuleName, Sources, UNAUTHENTICATED},
    target::{HeaderMatch, HeaderText, Target},
};

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
        let Document { value, layout } = read::<PolicyFile>(text, file, &DIALECT)?;
        let PolicyFile { service, default, rules, tests } = value;
        let mut compiler = Compiler { protocol, layout: &layout, problems: Problems::default() };
        let rules = compiler.rules(rules);
        let cases = compiler.cases(tests, &rules);
        layout.place(compiler.problems)?;
        Ok(Self::new(Parts { service: service.0.into(), protocol, default, rules, cases }))
    }
}

struct Compiler<'l> {
    protocol: Protocol,
    layout: &'l Layout,
    problems: Problems,
}

impl Compiler<'_> {
    fn rules(&mut self, entries: Vec<RuleEntry>) -> Box<[Rule]> {
        let mut lines = HashMap::<RuleName, usize>::new();
        let positions = self.layout.items("rules");
        let mut rules = Vec::with_capacity(entries.len());
        for ((index, entry), position) in entries.into_iter().enumerate().zip(positions) {
            let line = position.line;
            if let Some(first) = lines.insert(entry.name.clone(), line) {
                self.problems.add_with_help(
                    format!("rules[{index}]"),
                    format!("the rule `{}` exists already, at line {first}", entry.name),
                    "every decision names its rule, so each rule needs its own name",
                );
            }
            rules.push(self.rule(entry, index, line));
        }
        rules.into()
    }

    fn rule(&mut self, entry: RuleEntry, index: usize, line: usize) -> Rule {
        let RuleEntry { name, action, mode, from, to, when } = entry;
        if when.is_some() {
            self.problems.add_about_key(
                format!("rules[{index}].when"),
                "`when` is not supported yet in this version",
                "say it with `methods`, `paths`, `hosts` and `headers` under `to`",
            );
        }
        let from = match from {
            From::Any(_) => Sources::Any,
            From::One(one) => Sources::Patterns([one.0].into()),
            From::Many(several) => {
                if several.is_empty() {
                    self.problems.add_with_help(
                        format!("rules[{index}].from"),
                        "`from` is empty, so the rule could never match",
                        "list SPIFFE IDs or patterns, or write `from: any` for every authenticated peer",
                    );
                }
                Sources::Patterns(several.into_iter().map(|source| source.0).collect())
            }
        };
        let to = self.targets(to, index);
        Rule { name, action, mode, from, to, line, index }
    }

    fn targets(&mut self, to: Option<OneOrMany<TargetEntry>>, rule: usize) -> Box<[Target]> {
        let key = format!("rules[{rule}].to");
        match to {
            None => Box::default(),
            Some(OneOrMany::One(entry)) => [self.target(entry, &key)].into(),
            Some(OneOrMany::Many(entries)) => {
                if entries.is_empty() {
                    self.problems.add_with_help(
                        key.as_str(),
                        "`to` is empty, so the rule could never match",
                        "leave `to` out to match every request",
                    );
                }
                let entries = entries.into_iter().enumerate();
                entries.map(|(at, entry)| self.target(entry, &format!("{key}[{at}]"))).collect()
            }
        }
    }

    fn target(&mut self, entry: TargetEntry, key: &str) -> Target {
        self.check_target(&entry, key);
        let TargetEntry { methods, paths, hosts, headers } = entry;
        let methods = methods.map(OneOrMany::into_vec).unwrap_or_default();
        Target {
            methods: methods.into_iter().map(|method| method.0).collect(),
            paths: paths.map(OneOrMany::into_vec).unwrap_or_default().into(),
            hosts: hosts.map(OneOrMany::into_vec).unwrap_or_default().into(),
            headers: self.headers(headers.unwrap_or_default(), &format!("{key}.headers")),
        }
    }

    /// Every part that is written must be one that can match.
    fn check_target(&mut self, entry: &TargetEntry, key: &str) {
        let sizes = [
            ("methods", entry.methods.as_ref().map(OneOrMany::len)),
            ("paths", entry.paths.as_ref().map(OneOrMany::len)),
            ("hosts", entry.hosts.as_ref().map(OneOrMany::len)),
            ("headers", entry.headers.as_ref().map(IndexMap::len)),
        ];
        if sizes.iter().all(|(_, size)| size.is_none()) {
            self.problems.add_with_help(
                key,
                "an entry of `to` is empty",
                "leave `to` out to match every request",
            );
        }
        for (part, size) in sizes.into_iter().filter_map(|(part, size)| Some((part, size?))) {
            let key = format!("{key}.{part}");
            match size {
                _ if self.protocol == Protocol::Tcp => self.problems.add_about_key(
                    key,
                    format!("`{part}` asks what only HTTP can answer, but the listener speaks tcp"),
                    "set `protocol: http` on the listener, or decide by `from` alone",
                ),
                0 => self.report_empty(key, part),
                size if size > MAX_LIST => {
                    let message = format!("`{part}` has {size} entries; at most {MAX_LIST} are read");
                    self.problems.add(key, message);
                }
                _ => {}
            }
        }
    }

    fn headers(&mut self, headers: IndexMap<String, OneOrMany<HeaderText>>, key: &str) -> Box<[HeaderMatch]> {
        let mut matches = Vec::with_capacity(headers.len());
        for (name, values) in headers {
            let key = format!("{key}.{name}");
            if values.len() == 0 {
                self.report_empty(key.clone(), &name);
            }
            if let Some(name) = self.header_name(&name, key) {
                matches.push(HeaderMatch { name, values: values.into_vec().into() });
            }
        }
        matches.into()
    }

    fn report_empty(&mut self, key: String, part: &str) {
        self.problems.add_with_help(
            key,
            format!("`{part}` is empty, so the rule could never match"),
            format!("list what may match, or leave `{part}` out to match everything"),
        );
    }

    fn header_name(&mut self, name: &str, key: String) -> Option<http::HeaderName> {
        let parsed = http::HeaderName::from_bytes(name.as_bytes());
        if parsed.is_err() {
            self.problems.add_about_key(
                key,
                format!("{name:?} is not the name of a header"),
                "a name has letters, digits and `-`, such as `x-env`",
            );
        }
        parsed.ok()
    }

    fn cases(&mut self, entries: Vec<TestEntry>, rules: &[Rule]) -> Box<[Case]> {
        let names: HashSet<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let positions = self.layout.items("tests");
        let mut cases = Vec::with_capacity(entries.len());
        for ((index, entry), position) in entries.into_iter().enumerate().zip(positions) {
            let key = format!("tests[{index}]");
            self.check_request(&entry, &key);
            let TestEntry { peer, request, host, headers, expect, rule } = entry;
            let known = |name: &&str| matches!(*name, DEFAULT | UNAUTHENTICATED) || names.contains(name);
            if let Some(unknown) = rule.as_deref().filter(|name| !known(name)) {
                self.problems.add(format!("{key}.rule"), format!("the policy has no rule named `{unknown}`"));
            }
            let headers = self.header_map(headers.unwrap_or_default(), &format!("{key}.headers"));
            cases.push(Case { peer: peer.0, request, host, headers, expect, rule, position });
        }
        cases.into()
    }

    fn check_request(&mut self, entry: &TestEntry, key: &str) {
        if self.protocol == Protocol::Http {
            if entry.request.is_none() {
                self.problems.add_with_help(
                    format!("{key}.request"),
                    "`request` is missing",
                    "write method and path: `request: GET /orders`",
                );
            }
            return;
        }
        let written = [
            ("request", entry.request.is_some()),
            ("host", entry.host.is_some()),
            ("headers", entry.headers.is_some()),
        ];
        for (part, _) in written.into_iter().filter(|(_, is_written)| *is_written) {
            self.problems.add_about_key(
                format!("{key}.{part}"),
                "a test of a tcp listener has no request: a connection is decided by its peer alone",
                format!("leave `{part}` out"),
            );
        }
    }

    fn header_map(&mut self, headers: IndexMap<String, HeaderText>, key: &str) -> http::HeaderMap {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            if let Some(name) = self.header_name(&name, format!("{key}.{name}")) {
                map.append(name, value.0);
            }
        }
        map
    }
}
