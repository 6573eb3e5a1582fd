//! A document against the schema of the type that is wanted: every unknown key, every wrong value, each with its place.

use serde_json::{Map, Value};

use crate::{
    finding::Finding,
    keys::{self, Way},
    node::{Content, Entry, Node},
    schema::{Schemas, Shape},
    text::Check,
};

/// Longest text that a message quotes, in characters.
const MAX_QUOTED: usize = 80;

/// What a kind of document has of its own.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// The checks of texts, by the `format` in their schema. A format without a check is documentation only.
    pub formats: &'static [(&'static str, Check)],
    /// Keys at the top level that users bring along from elsewhere, and what to write instead.
    pub foreign_keys: &'static [(&'static str, &'static str)],
    /// What a key without a value means.
    pub empty: Empty,
}

/// What a key without a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// The same as if the key were not there.
    Absent,
    /// A mistake: somebody meant to write something.
    Mistake,
}

/// A document as JSON, and what had to be left out of it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What is right, as the schema has it; an empty object when the document is no mapping at all.
    pub value: Value,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Keys whose value was left out because it is wrong.
    pub refused: Vec<String>,
}

/// Compares a document with the schema.
#[must_use]
pub fn check(schemas: &Schemas<'_>, dialect: &Dialect, root: &Node) -> Checked {
    let mut checker = Checker { schemas, dialect, findings: Vec::new(), refused: Vec::new() };
    let value = checker.check(schemas.root, root, Way::Root);
    let Checker { findings, refused, .. } = checker;
    Checked { value: value.unwrap_or_else(|| Value::Object(Map::new())), findings, refused }
}

struct Checker<'s, 'd> {
    schemas: &'d Schemas<'s>,
    dialect: &'d Dialect,
    findings: Vec<Finding>,
    refused: Vec<String>,
}

impl<'s> Checker<'s, '_> {
    fn check(&mut self, schema: &'s Value, node: &Node, way: Way<'_>) -> Option<Value> {
        let shape = self.schemas.shape(schema);
        match (&*shape, &node.content) {
            (Shape::Group { properties, .. }, Content::Map(entries)) => {
                Some(self.check_group(properties, entries, way))
            }
            (Shape::Table { values, at_least }, Content::Map(entries)) => {
                self.check_size(entries.len(), *at_least, u64::MAX, node, way);
                let pairs = entries.iter().filter_map(|entry| self.check_entry(values, entry, way));
                Some(Value::Object(pairs.collect()))
            }
            (Shape::List { items, at_least, at_most }, Content::List(nodes)) => {
                self.check_size(nodes.len(), *at_least, *at_most, node, way);
                let checked = nodes.iter().enumerate().map(|(index, node)| {
                    // What was refused keeps its place, so that the items after it keep their index.
                    self.check(items, node, Way::Item(&way, index)).unwrap_or_default()
                });
                Some(Value::Array(checked.collect()))
            }
            (Shape::Either(several), content) => {
                let mut several = several.iter().filter(|_| !node.is_null());
                match several.find(|one| same_kind(&self.schemas.shape(one), content)) {
                    Some(one) => self.check(one, node, way),
                    None => self.refuse_kind(&shape, node, way),
                }
            }
            (Shape::Any, _) => Some(plain(node)),
            (Shape::Group { .. } | Shape::Table { .. } | Shape::List { .. }, _)
            | (_, Content::List(_) | Content::Map(_)) => self.refuse_kind(&shape, node, way),
            (_, Content::Scalar { text, .. }) => self.check_scalar(&shape, text, node, way),
        }
    }

    fn check_group(&mut self, properties: &'s Map<String, Value>, entries: &[Entry], way: Way<'_>) -> Value {
        let mut object = Map::new();
        for entry in entries {
            match properties.get(&entry.key) {
                Some(schema) => object.extend(self.check_entry(schema, entry, way)),
                None => self.report_unknown(properties, entry, way),
            }
        }
        Value::Object(object)
    }

    fn check_entry(&mut self, schema: &'s Value, entry: &Entry, parent: Way<'_>) -> Option<(String, Value)> {
        if entry.value.is_null() && self.dialect.empty == Empty::Absent {
            return None;
        }
        let value = self.check(schema, &entry.value, Way::Key(&parent, &entry.key))?;
        Some((entry.key.clone(), value))
    }

    fn check_scalar(&mut self, shape: &Shape<'s>, text: &str, node: &Node, way: Way<'_>) -> Option<Value> {
        if node.is_null() {
            return self.refuse_kind(shape, node, way);
        }
        match shape {
            Shape::Choice(words) => {
                if words.contains(&text) {
                    return Some(Value::from(text));
                }
                let meant = keys::nearest(text, words.iter().copied());
                let help = meant.map(|word| format!("did you mean `{word}`?"));
                let message = format!("expected {}, found `{}`", self.expected(shape), quoted(text));
                self.refuse(node, way, message, help)
            }
            Shape::Text { format, .. } => match format.and_then(|format| self.check_text(format, text)) {
                Some(message) => self.refuse(node, way, message, None),
                None => Some(Value::from(text)),
            },
            Shape::Integer { minimum, maximum } => match text.parse::<u64>() {
                Ok(number) if (*minimum..=*maximum).contains(&number) => Some(Value::from(number)),
                _ => self.refuse_kind(shape, node, way),
            },
            Shape::Boolean => match text {
                "true" | "True" | "TRUE" => Some(Value::Bool(true)),
                "false" | "False" | "FALSE" => Some(Value::Bool(false)),
                _ => self.refuse_kind(shape, node, way),
            },
            _ => self.refuse_kind(shape, node, way),
        }
    }

    /// What is wrong with a text of a format.
    fn check_text(&self, format: &str, text: &str) -> Option<String> {
        let (_, check) = self.dialect.formats.iter().find(|(name, _)| *name == format)?;
        check(text).err().map(|error| error.to_string())
    }

    fn check_size(&mut self, size: usize, at_least: u64, at_most: u64, node: &Node, way: Way<'_>) {
        let message = match u64::try_from(size) {
            Ok(size) if size < at_least => {
                let what = if at_least == 1 { "one value".to_owned() } else { format!("{at_least} values") };
                format!("`{way}` needs at least {what}")
            }
            Ok(size) if size > at_most => format!("`{way}` has {size} entries; at most {at_most} are read"),
            _ => return,
        };
        let key = way.to_string();
        self.findings.push(Finding { key, ..Finding::at(node.position, message) });
    }

    fn report_unknown(&mut self, properties: &'s Map<String, Value>, entry: &Entry, parent: Way<'_>) {
        let parent = parent.to_string();
        let place = if parent.is_empty() { "at the top level".to_owned() } else { format!("in `{parent}`") };
        let message = format!("unknown key `{}` {place}", quoted(&entry.key));
        let help = self.meant(properties, &entry.key, &parent);
        // The key that was meant is not missing as well.
        let near = keys::nearest(&entry.key, properties.keys().map(String::as_str));
        self.refused.extend(near.map(|near| keys::child(&parent, near)));
        let key = keys::child(&parent, &entry.key);
        self.findings.push(Finding { key, ..Finding::at(entry.key_position, message).help(help) });
    }

    /// What an unknown key was probably meant to be: a name from elsewhere that we know, the nearest name
    /// here, or the same name at another place.
    fn meant(&self, properties: &'s Map<String, Value>, name: &str, parent: &str) -> String {
        let mut foreign = self.dialect.foreign_keys.iter().filter(|_| parent.is_empty());
        if let Some((_, instead)) = foreign.find(|(known, _)| *known == name) {
            return (*instead).to_owned();
        }
        if let Some(near) = keys::nearest(name, properties.keys().map(String::as_str)) {
            return format!("did you mean `{near}`?");
        }
        let all = self.schemas.keys();
        let elsewhere = all.iter().map(|(key, _)| key.as_str());
        if let Some(key) = elsewhere.clone().find(|key| key.rsplit('.').next() == Some(name)) {
            return format!("`{key}` exists; does it belong there?");
        }
        let known: Vec<_> = properties.keys().map(String::as_str).collect();
        format!("known keys here: {}", known.join(", "))
    }

    fn refuse_kind(&mut self, shape: &Shape<'s>, node: &Node, way: Way<'_>) -> Option<Value> {
        let found = match &node.content {
            _ if node.is_null() => "nothing".to_owned(),
            Content::Scalar { text, .. } => format!("`{}`", quoted(text)),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "keys with values".to_owned(),
        };
        let help = match (shape, &node.content) {
            (Shape::List { .. }, Content::Scalar { text, .. }) if !node.is_null() => {
                Some(format!("for a list of one write `[{}]`", quoted(text)))
            }
            (Shape::Group { .. } | Shape::Table { .. }, Content::Scalar { text, plain: true }) => {
                let (before, after) = text.split_once(':').unwrap_or_default();
                let forgotten = !before.is_empty() && !after.starts_with(' ');
                forgotten
                    .then(|| format!("put a space after the colon: `{}: {}`", quoted(before), quoted(after)))
            }
            _ => None,
        };
        self.refuse(node, way, format!("expected {}, found {found}", self.expected(shape)), help)
    }

    fn refuse(&mut self, node: &Node, way: Way<'_>, message: String, help: Option<String>) -> Option<Value> {
        let key = way.to_string();
        let message = if key.is_empty() { message } else { format!("`{key}`: {message}") };
        self.findings.push(Finding { key: key.clone(), position: Some(node.position), message, help });
        self.refused.push(key);
        None
    }

    /// What a shape expects, to go after "expected".
    fn expected(&self, shape: &Shape<'s>) -> String {
        match shape {
            Shape::Either(several) => {
                let expected = several.iter().map(|one| self.schemas.shape(one).expected());
                expected.collect::<Vec<_>>().join(", or ")
            }
            one => one.expected().into_owned(),
        }
    }
}

/// Enough of a text to recognize it.
fn quoted(text: &str) -> String {
    let mut start: String =
        text.chars().take(MAX_QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

fn same_kind(shape: &Shape<'_>, content: &Content) -> bool {
    match content {
        Content::Map(_) => matches!(shape, Shape::Group { .. } | Shape::Table { .. } | Shape::Any),
        Content::List(_) => matches!(shape, Shape::List { .. } | Shape::Any),
        Content::Scalar { text, .. } => match shape {
            Shape::Choice(words) => words.contains(&text.as_str()),
            Shape::Integer { .. } => text.parse::<u64>().is_ok(),
            Shape::Boolean => matches!(text.as_str(), "true" | "false"),
            Shape::Text { .. } | Shape::Any => true,
            _ => false,
        },
    }
}

/// A value that no schema describes: text stays text unless it is plainly something else.
fn plain(node: &Node) -> Value {
    match &node.content {
        _ if node.is_null() => Value::Null,
        Content::Scalar { text, plain: true } => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => text.parse::<i64>().map(Value::from).unwrap_or_else(|_| Value::from(text)),
        },
        Content::Scalar { text, .. } => Value::from(text.as_str()),
        Content::List(items) => Value::Array(items.iter().map(plain).collect()),
        Content::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), plain(&entry.value))).collect())
        }
    }
}
