//! Reading one rule.

use super::fields::{Fields, Reader, text_of};
use crate::{
    pattern::IdPattern,
    policy::{
        DEFAULT, MAX_LIST, Mode, Protocol, Rule, RuleName, Sources, UNAUTHENTICATED, Verdict,
        path::PathPattern,
        target::{HeaderMatch, HostPattern, Target},
    },
    yaml::{Content, Node},
};

/// Reads the rule at `node`, which becomes the policy's rule number `index`; `None` when it has a problem, which is noted.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, index: usize) -> Option<Rule> {
    let fields = Fields::of(reader, node, "a rule", &["name", "action", "mode", "from", "to", "when"])?;
    if let Some(entry) = fields.entry("when") {
        reader.problem_with_help(
            entry.key_position,
            "`when` is not supported yet in this version",
            "say it with `methods`, `paths`, `hosts` and `headers` under `to`",
        );
    }
    let name = match fields.get("name") {
        Some(node) => read_name(reader, node),
        None => {
            reader.missing(
                node.position,
                "name",
                "name the rule: the name appears in every decision that it makes",
            );
            None
        }
    };
    let action = fields.get("action").map_or(Some(Verdict::Allow), |node| reader.verdict(node));
    let modes = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];
    let mode = fields.get("mode").map_or(Some(Mode::Enforce), |node| reader.word(node, &modes));
    let from = match fields.get("from") {
        Some(node) => read_sources(reader, node),
        None => {
            reader.missing(
                node.position,
                "from",
                "list the peers that the rule is about, or write `from: any`",
            );
            None
        }
    };
    let to = fields.get("to").map_or(Some(Vec::new()), |node| read_targets(reader, node));
    Some(Rule {
        name: RuleName(name?.into()),
        action: action?,
        mode: mode?,
        from: from?,
        to: to?.into(),
        line: node.position.line,
        index,
    })
}

fn read_name<'n>(reader: &mut Reader<'_>, node: &'n Node) -> Option<&'n str> {
    let name = reader.name(node, "a rule")?;
    if matches!(name, DEFAULT | UNAUTHENTICATED) {
        reader.problem(
            node.position,
            format!("no rule can be named `{name}`: decisions without a rule have that name"),
        );
        return None;
    }
    Some(name)
}

fn read_sources(reader: &mut Reader<'_>, node: &Node) -> Option<Sources> {
    if text_of(node) == Some("any") {
        return Some(Sources::Any);
    }
    if matches!(&node.content, Content::List(items) if items.is_empty()) {
        reader.problem_with_help(
            node.position,
            "`from` is empty, so the rule could never match",
            "list SPIFFE IDs or patterns, or write `from: any` for every authenticated peer",
        );
        return None;
    }
    let mut patterns = Vec::new();
    let texts = reader.texts(node, "from")?;
    let expected = texts.len();
    for (node, text) in texts {
        match IdPattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(_) if matches!(text, "any" | "*" | "**") => reader.problem_with_help(
                node.position,
                format!("`{text}` is not a SPIFFE ID or pattern"),
                "for every authenticated peer write `from: any`, alone and without a list",
            ),
            Err(error) => reader.problem(node.position, format!("`{text}`: {error}")),
        }
    }
    (patterns.len() == expected).then(|| Sources::Patterns(patterns.into()))
}

fn read_targets(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Target>> {
    let nodes = match &node.content {
        // One entry need not be a list.
        Content::Map(_) => std::slice::from_ref(node),
        Content::Scalar { .. } | Content::List(_) => reader.list(node, "to", MAX_LIST)?,
    };
    if nodes.is_empty() {
        reader.problem_with_help(
            node.position,
            "`to` is empty, so the rule could never match",
            "leave `to` out to match every request",
        );
        return None;
    }
    let targets: Vec<_> = nodes.iter().filter_map(|node| read_target(reader, node)).collect();
    (targets.len() == nodes.len()).then_some(targets)
}

fn read_target(reader: &mut Reader<'_>, node: &Node) -> Option<Target> {
    let known = ["methods", "paths", "hosts", "headers"];
    let fields = Fields::of(reader, node, "an entry of `to`", &known)?;
    if matches!(&node.content, Content::Map(entries) if entries.is_empty()) {
        reader.problem_with_help(
            node.position,
            "an entry of `to` is empty",
            "leave `to` out to match every request",
        );
        return None;
    }
    if reader.protocol() == Protocol::Tcp {
        for entry in known.iter().filter_map(|name| fields.entry(name)) {
            reader.problem_with_help(
                entry.key_position,
                format!("`{}` asks what only HTTP can answer, but the listener speaks tcp", entry.key),
                "set `protocol: http` on the listener, or decide by `from` alone",
            );
        }
        return None;
    }
    let methods = fields.get("methods").map_or(Some(Vec::new()), |node| read_methods(reader, node));
    let paths = fields.get("paths").map_or(Some(Vec::new()), |node| {
        each(reader, node, "paths", |text| PathPattern::parse(text).map_err(|error| error.to_string()))
    });
    let hosts = fields.get("hosts").map_or(Some(Vec::new()), |node| {
        each(reader, node, "hosts", |text| HostPattern::parse(text).map_err(ToOwned::to_owned))
    });
    let headers = fields.get("headers").map_or(Some(Vec::new()), |node| read_headers(reader, node));
    Some(Target {
        methods: methods?.into(),
        paths: paths?.into(),
        hosts: hosts?.into(),
        headers: headers?.into(),
    })
}

fn read_methods(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Box<str>>> {
    each(reader, node, "methods", |text| {
        if http::Method::from_bytes(text.as_bytes()).is_err() {
            return Err("a method is a word such as GET".to_owned());
        }
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            return Err(format!(
                "methods are compared exactly, and requests have {}",
                text.to_ascii_uppercase()
            ));
        }
        Ok(text.into())
    })
}

fn read_headers(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<HeaderMatch>> {
    let Content::Map(entries) = &node.content else {
        reader.problem(node.position, "`headers` maps a header's name to its value, or to a list of values");
        return None;
    };
    if entries.is_empty() || entries.len() > MAX_LIST {
        reader.problem(node.position, format!("`headers` has 1 to {MAX_LIST} entries"));
        return None;
    }
    let mut headers = Vec::new();
    for entry in entries {
        let name = http::HeaderName::from_bytes(entry.key.as_bytes());
        if name.is_err() {
            reader.problem(entry.key_position, "this is not the name of a header");
        }
        let values = each(reader, &entry.value, "headers", |text| match http::HeaderValue::from_str(text) {
            Ok(_) => Ok(Box::from(text)),
            Err(_) => Err("a header's value has visible ASCII characters and spaces only".to_owned()),
        });
        if let (Ok(name), Some(values)) = (name, values) {
            headers.push(HeaderMatch { name, values: values.into() });
        }
    }
    (headers.len() == entries.len()).then_some(headers)
}

/// Every text of a list, parsed; `None` when one of them has a problem.
fn each<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let texts = reader.texts(node, what)?;
    let expected = texts.len();
    let mut items = Vec::with_capacity(expected);
    for (node, text) in texts {
        match parse(text) {
            Ok(item) => items.push(item),
            Err(message) => reader.problem(node.position, format!("`{text}`: {message}")),
        }
    }
    (items.len() == expected).then_some(items)
}
