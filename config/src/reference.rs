//! The reference of all settings, made from their types, so that it cannot disagree with them.

use std::fmt::Write;

use serde_json::Value;
use svidecar_document::{
    keys,
    schema::{Schemas, Shape, json_schema},
};

use crate::{
    agent::AgentSettings, proxy::ProxySettings, server::ServerSettings, settings::Settings, show::value_text,
};

const INTRODUCTION: &str = "# Settings

Each program reads its settings from, the later wins: defaults, the file (`--config FILE`, or the variable
`PREFIX_CONFIG`), the environment, flags. A variable is the program's prefix and the key in capitals, with `__` for
the dot: `log.level` of the server is `SVIDECAR_SERVER_LOG__LEVEL`. Lists are separated by commas there; what has
`[]` in its key can only be set in the file.

An unknown key or variable is an error. `validate` (`svidecar check` for the proxy) reports all errors at once, with
line and column; `config show --effective` prints every value and where it came from; `config schema` prints a JSON
Schema for editors.

Durations are written `1h30m`, `10s`, `500ms`; sizes `64KiB`, `16MiB`; addresses `HOST:PORT` or `unix:/PATH`, and a
port alone means 127.0.0.1.
";

/// `docs/configuration.md`, whole.
#[must_use]
pub fn document() -> String {
    [
        INTRODUCTION.to_owned(),
        reference::<ProxySettings>("SVIDECAR_PROXY"),
        reference::<ServerSettings>("SVIDECAR_SERVER"),
        reference::<AgentSettings>("SVIDECAR_AGENT"),
    ]
    .join("\n")
}

/// All settings of one program as a table in Markdown: key, default, meaning.
#[must_use]
pub fn reference<T: Settings>(prefix: &str) -> String {
    let schema = json_schema::<T>();
    let mut table = Table { schemas: Schemas::new(&schema), rows: String::new() };
    table.add_group(&schema, "");
    format!(
        "## {}\n\nVariables begin with `{prefix}_`.\n\n| Key | Default | Meaning |\n|---|---|---|\n{}",
        T::PROGRAM,
        table.rows
    )
}

struct Table<'s> {
    schemas: Schemas<'s>,
    rows: String,
}

impl<'s> Table<'s> {
    fn add_group(&mut self, schema: &'s Value, parent: &str) {
        let shape = self.schemas.shape(schema);
        let Shape::Group { properties, required } = &*shape else { return };
        for (name, property) in *properties {
            let key = keys::child(parent, name);
            let shape = self.schemas.shape(property);
            match &*shape {
                Shape::Group { .. } => self.add_group(property, &key),
                Shape::List { items, .. } if matches!(*self.schemas.shape(items), Shape::Group { .. }) => {
                    self.add_row(&key, property, &Shape::Any, required.contains(&name.as_str()));
                    self.add_group(items, &format!("{key}[]"));
                }
                shape => self.add_row(&key, property, shape, required.contains(&name.as_str())),
            }
        }
    }

    fn add_row(&mut self, key: &str, property: &Value, shape: &Shape<'_>, required: bool) {
        let default = match property.get("default") {
            _ if required => "required".to_owned(),
            None | Some(Value::Null) => String::new(),
            Some(value) => format!("`{}`", value_text(value)),
        };
        let mut meaning =
            property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        if let Shape::Choice(words) = shape {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            let _ = write!(meaning, " One of {}.", words.join(", "));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.rows, "| `{key}` | {default} | {} |", meaning.replace('|', "\\|"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_current() {
        let page = include_str!("../../docs/configuration.md");
        let current = document();
        let outdated =
            current.lines().zip(page.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
        assert!(
            page == current,
            "docs/configuration.md is out of date; (expected, found): {outdated:?}\n\
             run: cargo run -p svidecar-config --example reference > docs/configuration.md"
        );
    }

    #[test]
    fn every_key_says_what_it_means() {
        let page = document();
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert!(rows.len() > 70, "{}", rows.len());
        for row in rows {
            let cells: Vec<_> = row.split(" | ").collect();
            assert_eq!(cells.len(), 3, "{row}");
            assert!(cells.last().unwrap().len() > 10, "{row} has no meaning");
        }
        assert!(page.contains("| `inbound[].timeouts.idle` | `1m` |"), "{page}");
        assert!(page.contains("| `trust_domain` | required |"), "{page}");
    }
}
