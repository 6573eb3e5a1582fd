//! A JSON Schema (draft 2020-12, as schemars writes it for our types) seen as the few shapes that settings have.

use std::{borrow::Cow, cell::RefCell, collections::HashMap, rc::Rc};

use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::keys;

/// The JSON Schema of a configuration file, for editors and for `config schema`.
#[must_use]
pub fn json_schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// A schema with its definitions.
#[derive(Debug)]
pub struct Schemas<'s> {
    /// The schema of the document as a whole.
    pub root: &'s Value,
    definitions: Option<&'s Map<String, Value>>,
    /// The shapes so far, by the address of their schema: a document has the same ones again and again.
    shapes: RefCell<HashMap<usize, Rc<Shape<'s>>>>,
}

/// What a value may be.
#[derive(Debug, Clone)]
pub enum Shape<'s> {
    /// A mapping with known keys.
    Group {
        /// The keys, each with its schema.
        properties: &'s Map<String, Value>,
        /// The keys that must be there.
        required: Vec<&'s str>,
    },
    /// A mapping with keys that the user chooses.
    Table {
        /// The schema of every value.
        values: &'s Value,
        /// Least number of keys.
        at_least: u64,
    },
    /// A list.
    List {
        /// The schema of every item.
        items: &'s Value,
        /// Least number of items.
        at_least: u64,
        /// Largest number of items.
        at_most: u64,
    },
    /// One of some words.
    Choice(Vec<&'s str>),
    /// A text.
    Text {
        /// Its format, which may have a check.
        format: Option<&'s str>,
        /// What could be written.
        example: Option<&'s str>,
    },
    /// A whole number.
    Integer {
        /// Smallest number.
        minimum: u64,
        /// Largest number.
        maximum: u64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of several shapes, told apart by their kind.
    Either(Vec<&'s Value>),
    /// Anything: the schema says nothing that we understand.
    Any,
}

impl<'s> Schemas<'s> {
    /// The schema `root`, with the definitions that it holds.
    #[must_use]
    pub fn new(root: &'s Value) -> Self {
        let definitions = root.get("$defs").and_then(Value::as_object);
        Self { root, definitions, shapes: RefCell::default() }
    }

    /// Follows references to where the shape is said. A nullable schema is followed to what it is otherwise:
    /// `null` means "not set" everywhere.
    fn resolve(&self, mut schema: &'s Value) -> &'s Value {
        // Definitions of our types are no deeper than this; a cycle of bare references would be a mistake.
        for _ in 0..16 {
            if let Some(name) =
                schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"))
            {
                match self.definitions.and_then(|definitions| definitions.get(name)) {
                    Some(definition) => schema = definition,
                    None => return schema,
                }
            } else if let [only] = alternatives(schema).as_slice() {
                schema = only;
            } else {
                return schema;
            }
        }
        schema
    }

    /// What a value by this schema may be.
    #[must_use]
    pub fn shape(&self, schema: &'s Value) -> Rc<Shape<'s>> {
        let address = std::ptr::from_ref(schema).addr();
        if let Some(shape) = self.shapes.borrow().get(&address) {
            return Rc::clone(shape);
        }
        let shape = Rc::new(self.find_shape(schema));
        self.shapes.borrow_mut().insert(address, Rc::clone(&shape));
        shape
    }

    fn find_shape(&self, schema: &'s Value) -> Shape<'s> {
        let schema = self.resolve(schema);
        if let Some(words) = words(schema) {
            return Shape::Choice(words);
        }
        let several = alternatives(schema);
        if !several.is_empty() {
            return Shape::Either(several);
        }
        let number = |name: &str| schema.get(name).and_then(Value::as_u64);
        match kind(schema) {
            "object" => match schema.get("properties").and_then(Value::as_object) {
                Some(properties) => {
                    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                    Shape::Group { properties, required: required.filter_map(Value::as_str).collect() }
                }
                None => Shape::Table {
                    values: schema.get("additionalProperties").unwrap_or(&Value::Bool(true)),
                    at_least: number("minProperties").unwrap_or(0),
                },
            },
            "array" => Shape::List {
                items: schema.get("items").unwrap_or(&Value::Bool(true)),
                at_least: number("minItems").unwrap_or(0),
                at_most: number("maxItems").unwrap_or(u64::MAX),
            },
            "string" => Shape::Text {
                format: schema.get("format").and_then(Value::as_str),
                example: schema.get("examples").and_then(|examples| examples.get(0)).and_then(Value::as_str),
            },
            "integer" => Shape::Integer {
                minimum: number("minimum").unwrap_or(0),
                maximum: number("maximum").unwrap_or_else(|| {
                    match schema.get("format").and_then(Value::as_str) {
                        Some("uint32") => u32::MAX.into(),
                        Some("int32") => i32::MAX as u64,
                        Some("int64") => i64::MAX as u64,
                        _ => u64::MAX,
                    }
                }),
            },
            "boolean" => Shape::Boolean,
            _ => Shape::Any,
        }
    }

    /// Every key that can be set, with its schema; what stands in lists and tables is not gone into.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, &'s Value)> {
        let mut found = Vec::new();
        self.collect_keys(self.root, "", &mut found);
        found
    }

    fn collect_keys(&self, schema: &'s Value, parent: &str, found: &mut Vec<(String, &'s Value)>) {
        if let Shape::Group { properties, .. } = &*self.shape(schema) {
            for (name, property) in *properties {
                let key = keys::child(parent, name);
                self.collect_keys(property, &key, found);
                found.push((key, property));
            }
        }
    }
}

/// The alternatives of `anyOf` and `oneOf` other than `null`.
fn alternatives(schema: &Value) -> Vec<&Value> {
    let of = |name: &str| schema.get(name).and_then(Value::as_array);
    let all = of("anyOf").or_else(|| of("oneOf"));
    all.into_iter().flatten().filter(|one| kind(one) != "null").collect()
}

/// The first type other than `null`.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("")
        }
        _ => "",
    }
}

/// The words of an enumeration: `enum`, `const`, or an `oneOf` of those.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return Some(all.iter().filter_map(Value::as_str).collect());
    }
    let all: Option<Vec<_>> = schema.get("oneOf")?.as_array()?.iter().map(words).collect();
    all.map(|words| words.concat())
}

impl Shape<'_> {
    /// What is expected, to go after "expected".
    #[must_use]
    pub fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Group { .. } | Self::Table { .. } => "keys with values".into(),
            Self::List { .. } => "a list".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")).into(),
            Self::Text { example: Some(example), .. } => format!("text such as `{example}`").into(),
            Self::Text { .. } => "text".into(),
            Self::Integer { minimum, maximum: u64::MAX } => format!("a whole number from {minimum}").into(),
            Self::Integer { minimum, maximum } => {
                format!("a whole number from {minimum} to {maximum}").into()
            }
            Self::Boolean => "`true` or `false`".into(),
            Self::Either(_) | Self::Any => "another kind of value".into(),
        }
    }
}
