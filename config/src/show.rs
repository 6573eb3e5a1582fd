//! `config show --effective` and `config schema`: what the three programs print about their settings.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde_json::Value;
use svidecar_document::schema::json_schema;

use crate::load::Setting;

/// Widest column of keys or values; what is longer pushes the rest of its own line only.
const MAX_COLUMN: usize = 48;

/// Prints settings for people: key, value and origin in columns.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_text(settings: &[Setting], out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> =
        settings.iter().map(|setting| (&setting.key, value_text(&setting.value), &setting.origin)).collect();
    let width = |lengths: &mut dyn Iterator<Item = usize>| {
        lengths.filter(|length| *length <= MAX_COLUMN).max().unwrap_or(0)
    };
    let keys = width(&mut rows.iter().map(|(key, ..)| key.chars().count()));
    let values = width(&mut rows.iter().map(|(_, value, _)| value.chars().count()));
    for (key, value, origin) in rows {
        writeln!(out, "{key:keys$}  {value:values$}  {origin}")?;
    }
    Ok(())
}

/// Prints settings for machines: a list of `{"key", "value", "origin"}`.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_json(settings: &[Setting], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, settings)?;
    writeln!(out)
}

/// Prints the JSON Schema of a configuration file, for editors.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_schema<T: JsonSchema>(out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &json_schema::<T>())?;
    writeln!(out)
}

/// A value as a file would write it.
pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(value_text).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<_> =
                map.iter().map(|(key, value)| format!("{key}: {}", value_text(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{load::Origin, server::ServerSettings};

    fn settings() -> Vec<Setting> {
        let one = |key: &str, value: Value, origin: Origin| Setting { key: key.into(), value, origin };
        vec![
            one("log.level", json!("debug"), Origin::Environment("SVIDECAR_SERVER_LOG__LEVEL".into())),
            one("admin_ids", json!(["spiffe://a/b", "spiffe://a/c"]), Origin::CommandLine),
            one("agent_ttl", json!(null), Origin::Default),
        ]
    }

    #[test]
    fn text_is_in_columns() {
        let mut out = Vec::new();
        write_text(&settings(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "log.level  debug                         environment variable SVIDECAR_SERVER_LOG__LEVEL\n\
             admin_ids  [spiffe://a/b, spiffe://a/c]  command line\n\
             agent_ttl  -                             default\n"
        );
    }

    #[test]
    fn json_has_the_three_fields() {
        let mut out = Vec::new();
        write_json(&settings(), &mut out).unwrap();
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read[0]["origin"], "environment variable SVIDECAR_SERVER_LOG__LEVEL");
        assert_eq!(
            read[1],
            json!({"key": "admin_ids", "value": ["spiffe://a/b", "spiffe://a/c"], "origin": "command line"})
        );
    }

    #[test]
    fn the_schema_names_its_draft_and_its_keys() {
        let mut out = Vec::new();
        write_schema::<ServerSettings>(&mut out).unwrap();
        let read: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(read["properties"]["trust_domain"]["format"], "trust-domain");
        assert_eq!(read["additionalProperties"], false);
    }
}
