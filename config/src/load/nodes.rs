//! Values from variables and flags in the shape of a file, so that they are checked like one.

use serde_json::Value;

use crate::yaml::{Content, Entry, Node, Position};

/// The position of what no file holds.
const NOWHERE: Position = Position { line: 0, column: 0 };

/// Dotted keys as nested mappings.
pub(super) fn nest(values: impl Iterator<Item = (String, Node)>) -> Node {
    let mut root = Vec::new();
    for (key, value) in values {
        insert(&mut root, &key, value);
    }
    Node { position: NOWHERE, content: Content::Map(root) }
}

fn insert(entries: &mut Vec<Entry>, key: &str, value: Node) {
    let (name, rest) = match key.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (key, None),
    };
    let index = entries.iter().position(|entry| entry.key == name);
    let Some(rest) = rest else {
        entries.retain(|entry| entry.key != name);
        entries.push(Entry { key: name.to_owned(), key_position: NOWHERE, value });
        return;
    };
    match index.and_then(|index| entries.get_mut(index)) {
        Some(Entry { value: Node { content: Content::Map(inner), .. }, .. }) => insert(inner, rest, value),
        _ => {
            let mut inner = Vec::new();
            insert(&mut inner, rest, value);
            let group = Node { position: NOWHERE, content: Content::Map(inner) };
            entries.push(Entry { key: name.to_owned(), key_position: NOWHERE, value: group });
        }
    }
}

/// A value of a flag.
pub(super) fn from_json(value: &Value) -> Node {
    let content = match value {
        Value::Null => Content::Scalar { text: String::new(), plain: true },
        Value::String(text) => Content::Scalar { text: text.clone(), plain: false },
        Value::Bool(_) | Value::Number(_) => Content::Scalar { text: value.to_string(), plain: true },
        Value::Array(items) => Content::List(items.iter().map(from_json).collect()),
        Value::Object(map) => Content::Map(
            map.iter()
                .map(|(key, value)| Entry {
                    key: key.clone(),
                    key_position: NOWHERE,
                    value: from_json(value),
                })
                .collect(),
        ),
    };
    Node { position: NOWHERE, content }
}

/// The value of a variable.
pub(super) fn scalar(text: &str) -> Node {
    Node { position: NOWHERE, content: Content::Scalar { text: text.to_owned(), plain: true } }
}

/// The value of a variable that holds a list.
pub(super) fn comma_separated(text: &str) -> Node {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(scalar);
    Node { position: NOWHERE, content: Content::List(items.collect()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn lists_are_separated_by_commas() {
        let Content::List(items) = comma_separated(" a, b ,,c").content else { panic!("no list") };
        assert_eq!(items, [scalar("a"), scalar("b"), scalar("c")]);
    }

    #[test]
    fn dotted_keys_become_mappings_and_the_last_of_two_wins() {
        let of =
            |pairs: &[(&str, &str)]| nest(pairs.iter().map(|(key, text)| ((*key).to_owned(), scalar(text))));
        let nested = of(&[("log.level", "a"), ("x", "b"), ("log.format", "c"), ("x", "d")]);
        let json = serde_json::json!({"log": {"level": "a", "format": "c"}, "x": "d"});
        let Content::Map(mut expected) = from_json(&json).content else { panic!("no mapping") };
        let Content::Map(mut found) = nested.content else { panic!("no mapping") };
        for entries in [&mut expected, &mut found] {
            entries.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let keys = |entries: &[Entry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&found), keys(&expected));
        assert_eq!(found.last().map(|entry| &entry.value), Some(&scalar("d")));
    }
}
