//! Values from variables and flags in the shape of a file, so that they are checked like one.

use serde_json::Value;
use svidecar_document::node::{Content, Entry, Node, Position};

/// The position of what no file holds.
const NOWHERE: Position = Position { line: 0, column: 0 };

/// The value of a dotted key as nested mappings.
pub(super) fn nest(key: &str, value: Node) -> Node {
    key.rsplit('.').fold(value, |value, name| {
        let entry = Entry { key: name.to_owned(), key_position: NOWHERE, value };
        Node { position: NOWHERE, content: Content::Map(vec![entry]) }
    })
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
    fn a_dotted_key_becomes_mappings() {
        assert_eq!(nest("log.level", scalar("debug")), {
            let json = serde_json::json!({"log": {"level": null}});
            let mut expected = from_json(&json);
            let Content::Map(log) = &mut expected.content else { panic!("no mapping") };
            let Content::Map(level) = &mut log[0].value.content else { panic!("no mapping") };
            level[0].value = scalar("debug");
            expected
        });
        assert_eq!(
            nest("workers", scalar("2")).entry("workers").map(|entry| &entry.value),
            Some(&scalar("2"))
        );
    }
}
