//! What a schema demands and a value lacks.

use serde_json::Value;

use crate::{
    keys::Way,
    schema::{Schemas, Shape},
};

/// A required key that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing<'s> {
    /// The key, such as `inbound[0].forward`.
    pub key: String,
    /// What could be written.
    pub example: Option<&'s str>,
    /// What the key means.
    pub meaning: Option<String>,
}

/// Which required keys `value` lacks. Those in `refused` were there, with a value that was wrong.
#[must_use]
pub fn missing<'s>(schemas: &Schemas<'s>, value: &Value, refused: &[String]) -> Vec<Missing<'s>> {
    let mut search = Search { schemas, refused, missing: Vec::new() };
    search.look(schemas.root, value, Way::Root);
    search.missing
}

struct Search<'s, 'r> {
    schemas: &'r Schemas<'s>,
    refused: &'r [String],
    missing: Vec<Missing<'s>>,
}

impl<'s> Search<'s, '_> {
    fn look(&mut self, schema: &'s Value, value: &Value, way: Way<'_>) {
        match (&*self.schemas.shape(schema), value) {
            (Shape::Group { properties, required }, Value::Object(map)) => {
                for (name, property) in *properties {
                    let way = Way::Key(&way, name);
                    match map.get(name) {
                        Some(value) => self.look(property, value, way),
                        None if required.contains(&name.as_str()) => self.note(way.to_string(), property),
                        None => {}
                    }
                }
            }
            (Shape::List { items, .. }, Value::Array(values)) => {
                for (index, value) in values.iter().enumerate() {
                    self.look(items, value, Way::Item(&way, index));
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, key: String, schema: &'s Value) {
        if self.refused.contains(&key) {
            return;
        }
        let example = match &*self.schemas.shape(schema) {
            Shape::Text { example, .. } => *example,
            _ => None,
        };
        let meaning = schema.get("description").and_then(Value::as_str);
        let meaning = meaning.map(|meaning| meaning.replace('\n', " "));
        self.missing.push(Missing { key, example, meaning });
    }
}
