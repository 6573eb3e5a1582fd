//! Reading keys, lists, names and words, and complaining where they are written.

use std::path::Path;

use crate::{
    diagnostic::Diagnostic,
    policy::{MAX_LIST, MAX_NAME_BYTES, Protocol, Verdict},
    yaml::{Content, Entry, Node, Position},
};

/// Collects the problems of one file.
pub(super) struct Reader<'f> {
    file: &'f Path,
    protocol: Protocol,
    problems: Vec<Diagnostic>,
}

impl<'f> Reader<'f> {
    pub(super) const fn new(file: &'f Path, protocol: Protocol) -> Self {
        Self { file, protocol, problems: Vec::new() }
    }

    pub(super) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn into_problems(self) -> Vec<Diagnostic> {
        self.problems
    }

    /// Notes a problem with what is written at `at`.
    pub(super) fn problem(&mut self, at: Position, message: impl Into<String>) {
        self.problems.push(Diagnostic::new(message).at(self.file, at.line, at.column));
    }

    /// Notes a problem and what to do about it.
    pub(super) fn problem_with_help(
        &mut self,
        at: Position,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.push(Diagnostic::new(message).at(self.file, at.line, at.column).help(help));
    }

    /// Notes that `key` is missing in the mapping at `at`.
    pub(super) fn missing(&mut self, at: Position, key: &str, help: &str) {
        self.problem_with_help(at, format!("`{key}` is missing"), help);
    }

    /// The text of a scalar.
    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = text_of(node);
        if text.is_none() {
            self.problem(node.position, format!("{what} is one word here, not {}", kind(node)));
        }
        text
    }

    /// The items of a list.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str, max: usize) -> Option<&'n [Node]> {
        let Content::List(items) = &node.content else {
            self.problem(node.position, format!("`{what}` is a list, not {}", kind(node)));
            return None;
        };
        if items.len() > max {
            self.problem(
                node.position,
                format!("`{what}` has {} entries; at most {max} are read", items.len()),
            );
            return None;
        }
        Some(items)
    }

    /// The texts of a list that must not be empty; one text alone is a list of one.
    pub(super) fn texts<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<(&'n Node, &'n str)>> {
        let nodes = match &node.content {
            Content::Scalar { .. } => std::slice::from_ref(node),
            Content::List(_) | Content::Map(_) => self.list(node, what, MAX_LIST)?,
        };
        if nodes.is_empty() {
            self.problem_with_help(
                node.position,
                format!("`{what}` is empty, so the rule could never match"),
                format!("list what may match, or leave `{what}` out where that means everything"),
            );
            return None;
        }
        nodes.iter().map(|item| Some((item, self.text(item, what)?))).collect()
    }

    /// The name of a service or rule.
    pub(super) fn name<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let name = self.text(node, "a name")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
            self.problem(
                node.position,
                format!("the name of {what} has 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` and `.`, not {name:?}"),
            );
            return None;
        }
        Some(name)
    }

    /// `allow` or `deny`.
    pub(super) fn verdict(&mut self, node: &Node) -> Option<Verdict> {
        self.word(node, &[("allow", Verdict::Allow), ("deny", Verdict::Deny)])
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let found = text_of(node).unwrap_or_else(|| kind(node));
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == found) {
            return Some(*value);
        }
        let message = format!("expected {}, found `{found}`", names().collect::<Vec<_>>().join(" or "));
        match nearest(found, names()) {
            Some(near) => self.problem_with_help(node.position, message, format!("did you mean `{near}`?")),
            None => self.problem(node.position, message),
        }
        None
    }
}

/// The keys of one mapping.
pub(super) struct Fields<'n>(&'n [Entry]);

impl<'n> Fields<'n> {
    /// The mapping at `node`, with a complaint about every key that is not known.
    pub(super) fn of(reader: &mut Reader<'_>, node: &'n Node, what: &str, known: &[&str]) -> Option<Self> {
        let Content::Map(entries) = &node.content else {
            let message = format!("expected {what} with the keys {}, found {}", known.join(", "), kind(node));
            reader.problem(node.position, message);
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let help = match nearest(&entry.key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys of {what} are {}", known.join(", ")),
            };
            reader.problem_with_help(
                entry.key_position,
                format!("unknown key `{}` in {what}", entry.key),
                help,
            );
        }
        Some(Self(entries))
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// A key with its place and value.
    pub(super) fn entry(&self, name: &str) -> Option<&'n Entry> {
        self.0.iter().find(|entry| entry.key == name)
    }
}

/// The text of a scalar.
pub(super) fn text_of(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text),
        Content::List(_) | Content::Map(_) => None,
    }
}

/// What a node is, for sentences.
fn kind(node: &Node) -> &'static str {
    match &node.content {
        Content::Scalar { .. } => "a word",
        Content::List(_) => "a list",
        Content::Map(_) => "a mapping",
    }
}

/// The known word that `found` is most likely a misspelling of.
fn nearest<'w>(found: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known
        .map(|word| (strsim::damerau_levenshtein(found, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
