//! From a file, the environment and flags to one checked value whose every part knows where it came from.
//!
//! The layers, the later wins: defaults, variables that the field agrees on (`SPIFFE_ENDPOINT_SOCKET`), the
//! file, our own variables, flags. Each layer is checked against the JSON Schema of the settings, so that
//! every unknown key and every wrong value is reported at once with its place; then the layers are merged, the
//! types are filled, and what no type can say is checked. It must never guess: a key that is not known is an
//! error in every layer.

mod environment;
mod file;
mod layers;
mod nodes;
mod origin;
mod origins;
mod source;

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use svidecar_document::{
    check::{Dialect, Empty},
    diagnostic::Diagnostics,
    document::Kind,
    problems::Problems,
    schema::{Schemas, json_schema},
    yaml,
};

pub use svidecar_document::document::Document;

pub use self::{
    environment::process_environment,
    file::read_text,
    origin::{Origin, Setting},
};
use self::{layers::Layers, origins::Origins, source::Source};
use crate::{formats::FORMATS, settings::Settings};

/// Reads a value from the text of a file that is no settings file, such as a list of entries, by the JSON Schema of its
/// type and with the formats of settings.
///
/// # Errors
/// All that is wrong, each with line and column. `file` is only named, never opened.
pub fn read_document<T: JsonSchema + DeserializeOwned>(
    text: &str,
    file: &Path,
) -> Result<Document<T>, Diagnostics> {
    Kind::new(dialect(&[])).read(text, file, |_| Problems::default())
}

/// How settings are read.
const fn dialect(foreign_keys: &'static [(&'static str, &'static str)]) -> Dialect {
    Dialect { formats: FORMATS, foreign_keys, empty: Empty::Absent }
}

/// Reads the settings of one program. It can be used again and again, for reloads.
#[derive(Debug, Clone)]
pub struct Loader<T> {
    prefix: String,
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<(String, Value)>,
    settings: PhantomData<fn() -> T>,
}

impl<T: Settings> Loader<T> {
    /// A loader of defaults only. `prefix` begins our variables: `SVIDECAR_SERVER` for
    /// `SVIDECAR_SERVER_LOG__LEVEL`.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            file: None,
            environment: Vec::new(),
            flags: Vec::new(),
            settings: PhantomData,
        }
    }

    /// With a file, which must exist. Without this, the file is what the variable `PREFIX_CONFIG` names, or none.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// With the environment, such as [`process_environment`]. Foreign variables are ignored.
    #[must_use]
    pub fn env(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = variables.into_iter().collect();
        self
    }

    /// With flags: dotted key to value, `("log.level", "debug")`. A `null` is a flag that was not given.
    #[must_use]
    pub fn flags(mut self, flags: Vec<(String, Value)>) -> Self {
        self.flags = flags;
        self
    }

    /// The file that [`Self::load`] will read, if any.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| environment::config_file(&self.prefix, &self.environment))
    }

    /// Reads, merges and checks everything.
    ///
    /// # Errors
    /// All that is wrong, each with its place.
    pub fn load(&self) -> Result<Loaded<T>, Diagnostics> {
        let schema = json_schema::<T>();
        let schemas = Schemas::new(&schema);
        let file = self.config_file();
        let mut layers = Layers::new(&schemas, dialect(T::foreign_keys()), file.as_deref());

        for variable in environment::aliases(T::environment_aliases(), &self.environment) {
            layers.add(Source::Variable(variable.name), &nodes::nest(&variable.key, variable.value));
        }
        if let Some(file) = &file {
            layers.add_file(yaml::parse(&read_text(file)?, file)?);
        }
        let (variables, unknown) = environment::ours(&self.prefix, &self.environment, &schemas);
        for (name, finding) in unknown {
            layers.report(&Source::Variable(name), finding);
        }
        for variable in variables {
            layers.add(Source::Variable(variable.name), &nodes::nest(&variable.key, variable.value));
        }
        for (key, value) in self.flags.iter().filter(|(_, value)| !value.is_null()) {
            layers.add(Source::Flag, &nodes::nest(key, nodes::from_json(value)));
        }
        let mut merged = layers.merge();
        merged.check_required(&schemas, &self.prefix);

        let mut value: T = merged.fill()?;
        let base = file.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        value.resolve_paths(base);
        let mut problems = Problems::default();
        value.validate(&mut problems);
        let origins = merged.finish(problems)?;
        Ok(Loaded { value, origins, file })
    }
}

/// Settings, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The settings.
    pub value: T,
    origins: Origins,
    file: Option<PathBuf>,
}

impl<T: Settings> Loaded<T> {
    /// The file that was read, if any.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Runs a further check, one that needs more than the values (a policy file, a CA), and places what it
    /// finds as the loader's own problems are placed.
    ///
    /// # Errors
    /// What the check found.
    pub fn check(&self, check: impl FnOnce(&T, &mut Problems)) -> Result<(), Diagnostics> {
        let mut problems = Problems::default();
        check(&self.value, &mut problems);
        self.origins.place(problems)
    }

    /// Where the value of a key, such as `inbound[0].forward`, came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.origin(key)
    }

    /// Every setting with its value and its origin, in the order of the reference. Secrets are hidden.
    #[must_use]
    pub fn effective(&self) -> Vec<Setting> {
        // Settings are plain data with text keys: serializing them cannot fail.
        serde_json::to_value(&self.value).map(|value| self.origins.settings(&value)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
