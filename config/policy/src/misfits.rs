//! What a policy as a whole must not say: rules and tests as they fit together and to the protocol of the listener.
//!
//! Looks at the document as it was written, so that it finds the same whether or not every single value is right. It must
//! never guess: a rule that would not do what it seems to say is an error.

use std::collections::{HashMap, HashSet};

use svidecar_document::{
    node::{Content, Entry, Node},
    problems::Problems,
};

use crate::{
    document::MAX_LIST,
    facts::Protocol,
    rule::{DEFAULT, UNAUTHENTICATED},
};

/// The parts of an entry of `to`.
const PARTS: [&str; 4] = ["methods", "paths", "hosts", "headers"];

/// What does not fit.
pub(crate) fn misfits(root: &Node, protocol: Protocol) -> Problems {
    let mut search = Search { protocol, problems: Problems::default() };
    let names = search.rules(items(root, "rules"));
    search.tests(items(root, "tests"), &names);
    search.problems
}

fn items<'n>(root: &'n Node, key: &str) -> &'n [Node] {
    root.entry(key).map_or(&[], |entry| entry.value.items())
}

/// A key whose value is there; one without is a mistake of its own.
fn written<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.entry(key).map(|entry| &entry.value).filter(|value| !value.is_null())
}

struct Search {
    protocol: Protocol,
    problems: Problems,
}

impl Search {
    /// Returns the rules' names.
    fn rules<'n>(&mut self, rules: &'n [Node]) -> HashSet<&'n str> {
        let mut lines = HashMap::<&str, usize>::new();
        for (index, rule) in rules.iter().enumerate() {
            let key = format!("rules[{index}]");
            if let Some(name) = written(rule, "name").and_then(Node::text)
                && let Some(first) = lines.insert(name, rule.position.line)
            {
                self.problems.add_with_help(
                    key.as_str(),
                    format!("the rule `{name}` exists already, at line {first}"),
                    "every decision names its rule, so each rule needs its own name",
                );
            }
            self.rule(rule, &key);
        }
        lines.into_keys().collect()
    }

    fn rule(&mut self, rule: &Node, key: &str) {
        if written(rule, "when").is_some() {
            self.problems.add_about_key(
                format!("{key}.when"),
                "`when` is not supported yet in this version",
                "say it with `methods`, `paths`, `hosts` and `headers` under `to`",
            );
        }
        if written(rule, "from").is_some_and(|from| size(from) == 0) {
            self.problems.add_with_help(
                format!("{key}.from"),
                "`from` is empty, so the rule could never match",
                "list SPIFFE IDs or patterns, or write `from: any` for every authenticated peer",
            );
        }
        let Some(to) = written(rule, "to") else { return };
        let key = format!("{key}.to");
        match &to.content {
            Content::Scalar { .. } => {}
            Content::Map(_) => self.target(to, &key),
            Content::List(targets) if targets.is_empty() => self.problems.add_with_help(
                key,
                "`to` is empty, so the rule could never match",
                "leave `to` out to match every request",
            ),
            Content::List(targets) => {
                for (at, target) in targets.iter().enumerate() {
                    self.target(target, &format!("{key}[{at}]"));
                }
            }
        }
    }

    /// Every part that is written must be one that can match.
    fn target(&mut self, target: &Node, key: &str) {
        if matches!(&target.content, Content::Map(entries) if entries.is_empty()) {
            self.problems.add_with_help(
                key,
                "an entry of `to` is empty",
                "leave `to` out to match every request",
            );
        }
        for part in PARTS {
            let Some(value) = written(target, part) else { continue };
            let key = format!("{key}.{part}");
            match size(value) {
                _ if self.protocol == Protocol::Tcp => self.problems.add_about_key(
                    key,
                    format!("`{part}` asks what only HTTP can answer, but the listener speaks tcp"),
                    "set `protocol: http` on the listener, or decide by `from` alone",
                ),
                0 => self.empty(key, part),
                _ if part == "headers" => self.headers(value, &key),
                _ => {}
            }
        }
    }

    fn headers(&mut self, headers: &Node, key: &str) {
        let entries = headers.entries();
        if entries.len() > MAX_LIST {
            let message = format!("`headers` has {} entries; at most {MAX_LIST} are read", entries.len());
            self.problems.add(key, message);
        }
        for Entry { key: name, value, .. } in entries {
            let key = format!("{key}.{name}");
            if size(value) == 0 {
                self.empty(key.clone(), name);
            }
            self.header_name(name, key);
        }
    }

    fn empty(&mut self, key: String, part: &str) {
        self.problems.add_with_help(
            key,
            format!("`{part}` is empty, so the rule could never match"),
            format!("list what may match, or leave `{part}` out to match everything"),
        );
    }

    fn header_name(&mut self, name: &str, key: String) {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            self.problems.add_about_key(
                key,
                format!("{name:?} is not the name of a header"),
                "a name has letters, digits and `-`, such as `x-env`",
            );
        }
    }

    fn tests(&mut self, tests: &[Node], names: &HashSet<&str>) {
        for (index, test) in tests.iter().enumerate() {
            let key = format!("tests[{index}]");
            self.request(test, &key);
            let known = |name: &&str| matches!(*name, DEFAULT | UNAUTHENTICATED) || names.contains(name);
            let rule = written(test, "rule").and_then(Node::text);
            if let Some(unknown) = rule.filter(|name| !known(name)) {
                self.problems.add(format!("{key}.rule"), format!("the policy has no rule named `{unknown}`"));
            }
            for Entry { key: name, .. } in written(test, "headers").map_or(&[][..], Node::entries) {
                self.header_name(name, format!("{key}.headers.{name}"));
            }
        }
    }

    fn request(&mut self, test: &Node, key: &str) {
        if self.protocol == Protocol::Http {
            if test.entry("request").is_none() && !test.entries().is_empty() {
                self.problems.add_with_help(
                    format!("{key}.request"),
                    "`request` is missing",
                    "write method and path: `request: GET /orders`",
                );
            }
            return;
        }
        for part in ["request", "host", "headers"].into_iter().filter(|part| test.entry(part).is_some()) {
            self.problems.add_about_key(
                format!("{key}.{part}"),
                "a test of a tcp listener has no request: a connection is decided by its peer alone",
                format!("leave `{part}` out"),
            );
        }
    }
}

/// How many values there are; a single one needs no list.
fn size(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 1,
        Content::List(items) => items.len(),
        Content::Map(entries) => entries.len(),
    }
}
