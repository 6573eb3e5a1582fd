//! One layer against the schema: every unknown key, every wrong value, each with its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    load::{
        keys,
        origin::{Finding, Origin},
        schema::{Schemas, Shape},
    },
    text,
    yaml::{Content, Entry, Node, Position},
};

/// Longest text that a message quotes, in characters.
const MAX_QUOTED: usize = 80;

/// Turns a layer into JSON by the schema, and notes what it had to leave out.
pub(crate) struct Checker<'s, 'f> {
    schemas: Schemas<'s>,
    foreign: &'static [(&'static str, &'static str)],
    at: &'f dyn Fn(&str, Position) -> Origin,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Keys whose value was left out because it is wrong.
    pub refused: Vec<String>,
    /// Where every key that was kept stands.
    pub origins: BTreeMap<String, Origin>,
}

impl<'s, 'f> Checker<'s, 'f> {
    pub(crate) fn new(
        schemas: Schemas<'s>,
        foreign: &'static [(&'static str, &'static str)],
        at: &'f dyn Fn(&str, Position) -> Origin,
    ) -> Self {
        Self { schemas, foreign, at, findings: Vec::new(), refused: Vec::new(), origins: BTreeMap::new() }
    }

    /// The whole layer; an empty object when it is no mapping at all.
    pub(crate) fn check_root(&mut self, root: &Node) -> Value {
        self.origins.insert(String::new(), (self.at)("", root.position));
        self.check(self.schemas.root, root, "").unwrap_or_else(|| Value::Object(Map::new()))
    }

    fn check(&mut self, schema: &'s Value, node: &Node, key: &str) -> Option<Value> {
        let shape = self.schemas.shape(schema);
        match (&shape, &node.content) {
            (Shape::Group { properties, .. }, Content::Map(entries)) => {
                Some(self.check_group(properties, entries, key))
            }
            (Shape::Table { values, at_least }, Content::Map(entries)) => {
                let size = entries.len();
                self.check_size(size, *at_least, node, key);
                let pairs = entries.iter().filter_map(|entry| self.check_entry(values, entry, key));
                Some(Value::Object(pairs.collect()))
            }
            (Shape::List { items, at_least }, Content::List(nodes)) => {
                self.check_size(nodes.len(), *at_least, node, key);
                let checked = nodes.iter().enumerate().map(|(index, node)| {
                    let key = keys::item(key, index);
                    self.origins.insert(key.clone(), (self.at)(&key, node.position));
                    // What was refused keeps its place, so that the items after it keep their index.
                    self.check(items, node, &key).unwrap_or_default()
                });
                Some(Value::Array(checked.collect()))
            }
            (Shape::Either(several), content) => {
                let fits = several.iter().find(|one| same_kind(&self.schemas.shape(one), content));
                match fits {
                    Some(one) => self.check(one, node, key),
                    None => self.refuse_kind(&shape, node, key),
                }
            }
            (Shape::Any, _) => Some(plain(node)),
            (Shape::Group { .. } | Shape::Table { .. } | Shape::List { .. }, _)
            | (_, Content::List(_) | Content::Map(_)) => self.refuse_kind(&shape, node, key),
            (_, Content::Scalar { text, .. }) => self.check_scalar(&shape, text, node, key),
        }
    }

    fn check_group(&mut self, properties: &'s Map<String, Value>, entries: &[Entry], key: &str) -> Value {
        let mut object = Map::new();
        for entry in entries {
            match properties.get(&entry.key) {
                Some(schema) => object.extend(self.check_entry(schema, entry, key)),
                None => self.report_unknown(properties, entry, key),
            }
        }
        Value::Object(object)
    }

    /// An entry without a value counts as one that is not there.
    fn check_entry(&mut self, schema: &'s Value, entry: &Entry, parent: &str) -> Option<(String, Value)> {
        if entry.value.is_null() {
            return None;
        }
        let key = keys::child(parent, &entry.key);
        self.origins.insert(key.clone(), (self.at)(&key, entry.value.position));
        self.check(schema, &entry.value, &key).map(|value| (entry.key.clone(), value))
    }

    fn check_scalar(&mut self, shape: &Shape<'_>, text: &str, node: &Node, key: &str) -> Option<Value> {
        if node.is_null() {
            return self.refuse_kind(shape, node, key);
        }
        match shape {
            Shape::Choice(words) => {
                if words.contains(&text) {
                    return Some(Value::from(text));
                }
                let meant = keys::nearest(text, words.iter().copied());
                let help = meant.map(|word| format!("did you mean `{word}`?"));
                self.refuse(node, key, format!("{}, found `{}`", expected(shape), quoted(text)), help)
            }
            Shape::Text { format, .. } => match format.and_then(text::check_of).map(|check| check(text)) {
                Some(Err(error)) => self.refuse(node, key, error.to_string(), None),
                _ => Some(Value::from(text)),
            },
            Shape::Integer { minimum, maximum } => match text.parse::<u64>() {
                Ok(number) if (*minimum..=*maximum).contains(&number) => Some(Value::from(number)),
                _ => self.refuse_kind(shape, node, key),
            },
            Shape::Boolean => match text {
                "true" | "True" | "TRUE" => Some(Value::Bool(true)),
                "false" | "False" | "FALSE" => Some(Value::Bool(false)),
                _ => self.refuse_kind(shape, node, key),
            },
            _ => self.refuse_kind(shape, node, key),
        }
    }

    fn check_size(&mut self, size: usize, at_least: u64, node: &Node, key: &str) {
        if u64::try_from(size).is_ok_and(|size| size < at_least) {
            let what = if at_least == 1 { "one value".to_owned() } else { format!("{at_least} values") };
            self.findings.push(Finding::new(
                key,
                (self.at)(key, node.position),
                format!("`{key}` needs at least {what}"),
            ));
        }
    }

    fn report_unknown(&mut self, properties: &'s Map<String, Value>, entry: &Entry, parent: &str) {
        let place = if parent.is_empty() { "at the top level".to_owned() } else { format!("in `{parent}`") };
        let message = format!("unknown key `{}` {place}", quoted(&entry.key));
        let help = self.meant(properties, &entry.key, parent);
        // The key that was meant is not missing as well.
        let near = keys::nearest(&entry.key, properties.keys().map(String::as_str));
        self.refused.extend(near.map(|near| keys::child(parent, near)));
        let key = keys::child(parent, &entry.key);
        let origin = (self.at)(&key, entry.key_position);
        self.findings.push(Finding::new(&key, origin, message).help(Some(help)));
    }

    /// What an unknown key was probably meant to be: a name from elsewhere that we know, the nearest name
    /// here, or the same name at another place.
    fn meant(&self, properties: &'s Map<String, Value>, name: &str, parent: &str) -> String {
        let foreign = self.foreign.iter().find(|(known, _)| parent.is_empty() && *known == name);
        if let Some((_, instead)) = foreign {
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

    fn refuse_kind(&mut self, shape: &Shape<'_>, node: &Node, key: &str) -> Option<Value> {
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
        self.refuse(node, key, format!("{}, found {found}", expected(shape)), help)
    }

    fn refuse(&mut self, node: &Node, key: &str, message: String, help: Option<String>) -> Option<Value> {
        let message = if key.is_empty() { message } else { format!("`{key}`: {message}") };
        self.findings.push(Finding::new(key, (self.at)(key, node.position), message).help(help));
        self.refused.push(key.to_owned());
        None
    }
}

fn expected(shape: &Shape<'_>) -> String {
    format!("expected {}", shape.expected())
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
