//! From a file, the environment and flags to one checked value whose every part knows where it came from.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::problems::Problems;

/// The settings of one program.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema {
    /// Name of the program, for messages and for the reference.
    const PROGRAM: &'static str;

    /// Checks how values of different keys fit together; what one value may be, its type says.
    fn validate(&self, problems: &mut Problems);

    /// Resolves paths that are relative to the directory of the configuration file.
    fn resolve_paths(&mut self, _base: &Path) {}

    /// Variables that the field agrees on, and the key that each is the default of.
    fn environment_aliases() -> &'static [(&'static str, &'static str)] {
        &[]
    }
}
