//! A file of our own that is no settings file, such as a policy: the same reading, checking and placing.

use std::{fs::File, io::Read, path::Path};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{
    layer::Layers,
    origin::Origins,
    schema::{Schemas, json_schema},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    problems::Problems,
    yaml::{self, Node},
};

/// A value that was read from one file, and where each part of it stands.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// The value.
    pub value: T,
    origins: Origins,
}

impl<T> Document<T> {
    /// Places problems that a check of the value found, by key (`rules[2].from[0]`).
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn place(&self, problems: Problems) -> Result<(), Diagnostics> {
        self.origins.place(problems)
    }
}

/// Reads a value from the text of a file, by the JSON Schema of its type.
///
/// # Errors
/// All that is wrong, each with line and column. `file` is only named, never opened.
pub fn read_document<T: JsonSchema + DeserializeOwned>(
    text: &str,
    file: &Path,
) -> Result<Document<T>, Diagnostics> {
    let root = yaml::parse(text, file)?;
    let schema = json_schema::<T>();
    let mut layers = Layers::new(Schemas::new(&schema), &[], Some(file));
    layers.add_file(&root);
    layers.check_required(None);
    let value = layers.extract()?;
    layers.finish()?;
    Ok(Document { value, origins: layers.into_origins() })
}

/// Reads a file as YAML.
///
/// # Errors
/// When it cannot be read, is too large, or is not what [`yaml::parse`] accepts.
pub fn read_file(file: &Path) -> Result<Node, Diagnostics> {
    yaml::parse(&read_text(file)?, file)
}

/// The text of a file, at most [`yaml::MAX_BYTES`] and one more byte, by which the parser sees that it is too large.
///
/// # Errors
/// When it cannot be read, or is not UTF-8.
pub fn read_text(file: &Path) -> Result<String, Diagnostics> {
    let failed = |message: String| Diagnostics::from(Diagnostic::new(message).at(file, 0, 0));
    let mut bytes = Vec::new();
    let limit = yaml::MAX_BYTES as u64 + 1;
    File::open(file)
        .and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
        .map_err(|error| failed(format!("the file cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        failed(format!("the file is not UTF-8 text: byte {} is wrong", error.utf8_error().valid_up_to() + 1))
    })
}
