//! From the text of a policy file to a [`Policy`].
//!
//! Owns the keys of the file and every complaint about them, with line and column, all at once. It must
//! never guess: a rule that would not do what it seems to say is an error.

mod fields;
mod rule;
mod test_case;

use std::{collections::HashMap, path::Path};

use self::fields::{Fields, Reader};
use super::{IdIndex, MAX_RULES, MAX_TESTS, Policy, Protocol, Rule, Sources, Verdict};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    yaml::{self, Node},
};

pub(super) fn read(text: &str, file: &Path, protocol: Protocol) -> Result<Policy, Diagnostics> {
    let root = yaml::parse(text, file)?;
    let mut reader = Reader::new(file, protocol);
    let policy = read_policy(&mut reader, &root);
    Diagnostics::check(reader.into_problems())?;
    // Without a problem there is a policy: every `None` was reported.
    policy.ok_or_else(|| Diagnostic::new("the policy could not be read").at(file, 0, 0).into())
}

fn read_policy(reader: &mut Reader<'_>, root: &Node) -> Option<Policy> {
    let fields = Fields::of(reader, root, "a policy", &["service", "default", "rules", "tests"])?;
    let service = match fields.get("service") {
        Some(node) => reader.name(node, "a service"),
        None => {
            reader.missing(
                root.position,
                "service",
                "name the service that the policy protects: `service: orders`",
            );
            None
        }
    };
    let default = fields.get("default").map_or(Some(Verdict::Deny), |node| reader.verdict(node));
    let rules = read_rules(reader, &fields);
    let cases = fields.get("tests").map_or(Some(Vec::new()), |node| {
        let nodes = reader.list(node, "tests", MAX_TESTS)?;
        Some(nodes.iter().filter_map(|node| test_case::read(reader, node, &rules)).collect())
    });
    let mut index = IdIndex::default();
    for (at, rule) in rules.iter().enumerate() {
        match &rule.from {
            Sources::Any => index.add_any(at),
            Sources::Patterns(patterns) => patterns.iter().for_each(|pattern| index.add(pattern, at)),
        }
    }
    let reads_headers = rules.iter().flat_map(|rule| &rule.to).any(|target| !target.headers.is_empty());
    Some(Policy {
        service: service?.into(),
        protocol: reader.protocol(),
        default: default?,
        rules: rules.into(),
        index,
        reads_headers,
        cases: cases?.into(),
    })
}

fn read_rules(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<Rule> {
    let Some(nodes) = fields.get("rules").and_then(|node| reader.list(node, "rules", MAX_RULES)) else {
        return Vec::new();
    };
    let mut lines = HashMap::new();
    let mut rules = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(rule) = rule::read(reader, node, rules.len()) else { continue };
        match lines.insert(rule.name.clone(), rule.line) {
            Some(line) => reader.problem_with_help(
                node.position,
                format!("the rule `{}` exists already, at line {line}", rule.name),
                "every decision names its rule, so each rule needs its own name",
            ),
            None => rules.push(rule),
        }
    }
    rules
}
