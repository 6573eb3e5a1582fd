//! From a file, the environment and flags to one checked value whose every part knows where it came from.
//!
//! The layers, the later wins: defaults, variables that the field agrees on (`SPIFFE_ENDPOINT_SOCKET`), the
//! file, our own variables, flags. Each layer is checked against the JSON Schema of the settings, so that
//! every unknown key and every wrong value is reported at once with its place; then the layers are merged, the
//! types are filled, and what no type can say is checked. It must never guess: a key that is not known is an
//! error in every layer.

mod document;
mod environment;
mod keys;
mod layer;
mod nodes;
mod origin;
mod schema;

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::{
    document::{Document, read_document, read_file, read_text},
    environment::process_environment,
    origin::{Origin, Setting},
    schema::json_schema,
};
pub(crate) use self::{
    keys::child as child_key,
    schema::{Schemas, Shape},
};
use self::{layer::Layers, origin::Origins};
use crate::{diagnostic::Diagnostics, problems::Problems};

/// The settings of one program.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema {
    /// Name of the program, for messages and for the reference.
    const PROGRAM: &'static str;

    /// Checks how values of different keys fit together; what one value may be, its type says.
    fn validate(&self, problems: &mut Problems);

    /// Resolves paths that are relative to the directory of the configuration file.
    fn resolve_paths(&mut self, _base: &Path) {}

    /// Variables that the field agrees on, and the key that each is the default of.
    #[must_use]
    fn environment_aliases() -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Keys that users bring along from elsewhere, and what to write instead.
    #[must_use]
    fn foreign_keys() -> &'static [(&'static str, &'static str)] {
        &[]
    }
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
        let mut layers = Layers::new(schemas, T::foreign_keys(), file.as_deref());

        layers.add_variables(environment::aliases(T::environment_aliases(), &self.environment));
        if let Some(file) = &file {
            layers.add_file(&read_file(file)?);
        }
        let (variables, unknown) = environment::ours(&self.prefix, &self.environment, schemas);
        layers.report(unknown);
        layers.add_variables(variables);
        layers.add_flags(&self.flags);
        layers.check_required(Some(&self.prefix));

        let mut value: T = layers.extract()?;
        let base = file.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        value.resolve_paths(base);
        let mut problems = Problems::default();
        value.validate(&mut problems);
        layers.report_problems(problems);
        layers.finish()?;
        Ok(Loaded { value, origins: layers.into_origins(), file })
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
