//! What the settings of every program are: one value that can be read, checked and documented.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use svidecar_document::problems::Problems;

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

/// The keys that a validation complains about.
#[cfg(test)]
pub(crate) fn wrong_keys(settings: &impl Settings) -> Vec<String> {
    let mut problems = Problems::default();
    settings.validate(&mut problems);
    problems.into_iter().map(|problem| problem.key).collect()
}
